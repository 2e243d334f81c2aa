"""The runs of a sweep in MLflow: key, name, start, tags and parent of each, built from the sweep's state on demand.

The levels are sweep, data set, arm, replicate, trial; those of data sets and of replicates are left out while there is
one of them. Keys do not depend on the levels, so that a sweep that is given more of either finds its runs again.
"""

from collections.abc import Iterator
from datetime import UTC, datetime

from supersnn.digests import digest
from supersnn.records.events import SweepStarted, WinnerVerified
from supersnn.records.search_state import SearchRecord
from supersnn.records.state import SweepState
from supersnn.records.trial_state import TrialRecord
from tune.tracking.changes import Run


class UnknownRunError(LookupError):
    """An event is about a sweep, an arm or a trial that no earlier event has started."""


LONGEST_TAG = 4900
"""Characters of a tag: MLflow holds 5,000. Of more than 29,000 test images the journal alone has which were right."""


class Runs:
    """Builds runs from a state. It keeps the sweep's own run only: the others may be many."""

    def __init__(self, sweep: str, seed: int, state: SweepState) -> None:
        self.state = state
        self._name, self._seed = sweep, seed
        self._sweep: Run | None = None

    @property
    def started(self) -> bool:
        """Whether a driver has started the sweep."""
        return self._sweep is not None

    def start(self, event: SweepStarted) -> None:
        """Take the first event of the journal: its digest tells journals of sweeps with equal names apart."""
        if self._sweep is None:
            journal = digest(event.model_dump(mode="json", by_alias=True, exclude_unset=True))
            tags = {"supersnn.journal": journal, "supersnn.level": "sweep", "supersnn.seed": str(self._seed)}
            self._sweep = Run(f"{self._name}@{journal}", self._name, event.time, tags)

    def sweep(self) -> Run:
        """Return the sweep's run.

        Raises:
            UnknownRunError: no driver has started it.
        """
        if self._sweep is None:
            raise UnknownRunError("no event has started the sweep")
        return self._sweep

    def groups(self) -> Iterator[Run]:
        """Yield the sweep's run, and those of data sets, arms and replicates that have a trial; parents come first."""
        yield self.sweep()
        found: dict[str, Run] = {}
        for name, search in self.state.searches.items():
            if search.trials:
                for run in self.above(name):
                    found[run.key] = run
        yield from found.values()

    def above(self, search: str) -> list[Run]:
        """Return the runs of a search's data set, arm and replicate, as far as there are several: the arm's always.

        Raises:
            UnknownRunError: the search has no trial.
        """
        run: Run | None = self.search(search)
        runs = list[Run]()
        while run is not None and run.parent is not None:
            runs.append(run)
            run = run.parent
        return runs[::-1]

    def search(self, name: str) -> Run:
        """Return the run that a search's trials belong to: its replicate's, or with one replicate its arm's.

        Raises:
            UnknownRunError: the search has no trial.
        """
        record = self.state.searches.get(name)
        if record is None or not record.trials:
            raise UnknownRunError(f"{name}: no event has started a trial of this {'search' if '~' in name else 'arm'}")
        arm = self._arm(record)
        if self.state.replicates == 1:
            return arm
        tags = self._tags("replicate", record) | {"supersnn.replicate": str(record.replicate)}
        title = f"{arm.name} replicate {record.replicate}"
        return Run(f"{self.sweep().key}/{name}/replicate", title, _started(record), tags, arm)

    def arm(self, name: str) -> Run:
        """Return the run of a search's arm on its data set, which starts with the first trial of any replicate.

        Raises:
            UnknownRunError: the search has no trial.
        """
        run = self.search(name)
        return run.parent if self.state.replicates > 1 and run.parent is not None else run

    def dataset(self, label: str | None) -> Run:
        """Return the run of a data set: with one data set the sweep's."""
        parent = self.sweep()
        if label is None or len(self.state.datasets) < 2:
            return parent
        tags = self._common("dataset") | {"supersnn.dataset": label}
        return Run(f"{parent.key}/~{label}", label, self._began(label), tags, parent)

    def trial(self, search: str, number: int) -> Run:
        """Return a trial's run.

        Raises:
            UnknownRunError: the trial has not been started.
        """
        trial, parent = self._record(search, number), self.search(search)
        record = self.state.searches[search]
        tags = self._own_tags("trial", record) | {"supersnn.seed": str(trial.seed or 0)}
        tags |= self._described(trial, record) | {"supersnn.sampled": " ".join(sorted(trial.params))}
        networks = f"{trial.teacher}→{trial.student}" if trial.teacher else str(trial.student)
        name = f"{parent.name} #{number} {networks}"
        return Run(f"{self.sweep().key}/{search}/{number}", name, trial.started, tags, parent)

    def verification(self, event: WinnerVerified) -> Run:
        """Return the run of a winner's training with a fresh seed.

        Raises:
            UnknownRunError: the winner is a trial that has not been started.
        """
        search = self.state.search_name(event)
        trial, parent = self._record(search, event.trial), self.search(search)
        record = self.state.searches[search]
        tags = self._own_tags("verification", record) | {"supersnn.seed": str(event.seed)}
        tags |= self._described(trial, record) | {"supersnn.end": event.ended}
        if event.opened is not None:
            tags["supersnn.test_opened"] = datetime.fromtimestamp(event.opened, UTC).isoformat(timespec="seconds")
        if event.right is not None and len(event.right) <= LONGEST_TAG:
            tags["supersnn.right"] = event.right
        key, name = f"{search}/{event.trial}/verify/{event.seed}", f"{parent.name} verify seed {event.seed}"
        return Run(f"{self.sweep().key}/{key}", name, event.time - (event.seconds or 0.0), tags, parent)

    def _arm(self, record: SearchRecord) -> Run:
        """Return the run of an arm on a data set, of which this search is one."""
        replicates = self.state.searches_of(record.arm, record.dataset)
        started = min(_started(search) for search in replicates if search.trials)
        several = len(self.state.datasets) > 1
        name = f"{record.arm} {record.dataset}" if several else record.arm
        parent = self.dataset(record.dataset)
        key = self.state.search_id(record.arm, record.dataset)
        return Run(f"{self.sweep().key}/{key}", name, started, self._tags("arm", record), parent)

    def _began(self, dataset: str) -> float:
        """Return when the first split of a data set was recorded, or the sweep was started."""
        data = self.state.data_of(dataset)
        return self.sweep().started if data is None else data.time

    def _record(self, search: str, number: int) -> TrialRecord:
        trial = self.state.trial(search, number)
        if trial is None:
            raise UnknownRunError(f"{search} #{number}: no event has started this trial")
        return trial

    def _common(self, level: str) -> dict[str, str]:
        tags = {"supersnn.journal": self.sweep().tags["supersnn.journal"], "supersnn.level": level}
        return tags | {"supersnn.code": str(self.state.drivers[-1].code)}

    def _tags(self, level: str, record: SearchRecord) -> dict[str, str]:
        """Return the tags of a search's run, or of its arm's."""
        tags = self._common(level) | {"supersnn.arm": record.arm}
        data = self.state.data_of(record.dataset)
        if dataset := record.dataset or (data.dataset if data is not None else None):
            tags["supersnn.dataset"] = dataset
        replicates = {0, self.state.replicates - 1} if level == "arm" else {record.replicate}
        splits = {self.state.split_of(record.dataset, replicate) for replicate in replicates}
        split = splits.pop() if len(splits) == 1 else None
        return tags | {"supersnn.split": split} if split else tags

    def _own_tags(self, level: str, record: SearchRecord) -> dict[str, str]:
        """Return the tags of a run below a search."""
        return self._tags(level, record) | {"supersnn.replicate": str(record.replicate)}

    def _described(self, trial: TrialRecord, record: SearchRecord) -> dict[str, str]:
        """Return a trial's labels, and the facts of its teacher."""
        place = record.dataset, record.replicate
        teacher = self.state.teacher_named(trial.teacher, False, *place) if trial.teacher else None
        if teacher is None:
            return labels(trial)
        facts = {"digest": teacher.digest, "accuracy": teacher.val_accuracy, "parameters": teacher.parameters}
        return labels(trial) | {f"supersnn.teacher_{name}": str(value) for name, value in facts.items()}


def _started(search: SearchRecord) -> float:
    """Return when a search's first trial was started."""
    return next(iter(search.trials.values())).started


def labels(trial: TrialRecord) -> dict[str, str]:
    """Return the tags that describe a trial's student, teacher, their families and the kind of their pairing."""
    values = {
        "student": trial.student,
        "student_family": trial.student_family,
        "teacher": trial.teacher,
        "teacher_family": trial.teacher_family,
        "pairing": trial.pairing,
    }
    return {f"supersnn.{name}": value for name, value in values.items() if value is not None}
