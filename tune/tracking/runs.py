"""The runs of a sweep in MLflow: key, name, start, tags and parent of each, built from the sweep's state on demand."""

from collections.abc import Iterator
from datetime import UTC, datetime

from supersnn.config_model import digest
from supersnn.records.events import SweepStarted, WinnerVerified
from supersnn.records.state import SweepState, TrialRecord
from tune.tracking.changes import Run


class UnknownRunError(LookupError):
    """An event is about a sweep, an arm or a trial that no earlier event has started."""


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

    def arms(self) -> Iterator[Run]:
        """Yield the run of each arm that has a trial."""
        for name, arm in self.state.searches.items():
            if arm.trials:
                yield self.arm(name)

    def arm(self, name: str) -> Run:
        """Return an arm's run, which starts with the arm's first trial.

        Raises:
            UnknownRunError: the arm has no trial.
        """
        trials = self.state.searches[name].trials if name in self.state.searches else {}
        if not trials:
            raise UnknownRunError(f"{name}: no event has started a trial of this arm")
        parent = self.sweep()
        return Run(f"{parent.key}/{name}", name, next(iter(trials.values())).started, self._tags("arm", name), parent)

    def trial(self, arm: str, number: int) -> Run:
        """Return a trial's run.

        Raises:
            UnknownRunError: the trial has not been started.
        """
        trial, parent = self._record(arm, number), self.arm(arm)
        tags = self._tags("trial", arm) | {"supersnn.seed": str(trial.seed or 0)} | self._described(trial)
        tags["supersnn.sampled"] = " ".join(sorted(trial.params))
        networks = f"{trial.teacher}→{trial.student}" if trial.teacher else str(trial.student)
        return Run(f"{parent.key}/{number}", f"{arm} #{number} {networks}", trial.started, tags, parent)

    def verification(self, event: WinnerVerified) -> Run:
        """Return the run of a winner's training with a fresh seed.

        Raises:
            UnknownRunError: the winner is a trial that has not been started.
        """
        trial, parent = self._record(event.arm, event.trial), self.arm(event.arm)
        seed = {"supersnn.seed": str(event.seed)}
        tags = self._tags("verification", event.arm) | seed | self._described(trial) | {"supersnn.end": event.ended}
        if event.opened is not None:
            tags["supersnn.test_opened"] = datetime.fromtimestamp(event.opened, UTC).isoformat(timespec="seconds")
        key, name = f"{parent.key}/{event.trial}/verify/{event.seed}", f"{event.arm} verify seed {event.seed}"
        return Run(key, name, event.time - (event.seconds or 0.0), tags, parent)

    def _record(self, arm: str, number: int) -> TrialRecord:
        trial = self.state.trial(arm, number)
        if trial is None:
            raise UnknownRunError(f"{arm} #{number}: no event has started this trial")
        return trial

    def _tags(self, level: str, arm: str) -> dict[str, str]:
        tags = {"supersnn.journal": self.sweep().tags["supersnn.journal"], "supersnn.level": level}
        tags |= {"supersnn.arm": arm, "supersnn.code": str(self.state.drivers[-1].code)}
        return tags | {"supersnn.split": self.state.split} if self.state.split else tags

    def _described(self, trial: TrialRecord) -> dict[str, str]:
        """Return a trial's labels, and the facts of its teacher."""
        teacher = self.state.teacher_named(trial.teacher) if trial.teacher else None
        if teacher is None:
            return labels(trial)
        facts = {"digest": teacher.digest, "accuracy": teacher.val_accuracy, "parameters": teacher.parameters}
        return labels(trial) | {f"supersnn.teacher_{name}": str(value) for name, value in facts.items()}


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
