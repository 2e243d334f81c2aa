"""What a sweep's events add up to: its trials, their best, winners, final runs, teachers and drivers.

`SweepState.apply` is the only place where events become state. It keeps no event but the few that are results
themselves, so that its size follows from the number of trials, not from that of the epochs.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from supersnn.config_model import digest
from supersnn.records import metrics as measures
from supersnn.records.events import (
    AnyEvent,
    DatasetSplit,
    DriverEnd,
    EpochReported,
    RequestTaken,
    SweepClosed,
    SweepStarted,
    TeacherCached,
    TeacherRefitted,
    TeacherTrained,
    TrialEnd,
    TrialEnded,
    TrialRanked,
    TrialStarted,
    WinnerChosen,
    WinnerExported,
    WinnerVerified,
    end_state,
)
from supersnn.records.pairing import family, pairing
from supersnn.records.searches import SearchId

SearchEvent = TrialStarted | EpochReported | TrialEnded | TrialRanked | WinnerChosen | WinnerVerified | WinnerExported
"""The events that are about one search."""
E = TypeVar("E", TeacherTrained, TeacherRefitted, TeacherTrained | TeacherRefitted, TeacherCached)
K = TypeVar("K")
V = TypeVar("V")
Key = tuple[str, int]
"""A trial's search, by its name, and number."""
OVERALL = "overall"
"""What takes the place of the arm for the export of a data set's best arm."""


@dataclass(slots=True)
class TrialRecord:
    """One trial.

    Attributes:
        number: of the trial in its search.
        started: when it was first sent to a worker, in Unix seconds.
        student, teacher: architectures; `teacher` is None without one.
        student_family, teacher_family, pairing: see `supersnn.records.pairing`.
        dataset: name of the data set.
        seed: of its first training.
        epochs_per_seed: the length of one of its trainings.
        params: the sampled values by dotted key.
        epochs: how many epochs the journal has of it.
        metrics: those of its last epoch by key.
        first_seed: those of its first seed's last epoch, where it has trained that to the end.
        seconds: of training.
        end: ``finished``, ``stopped`` or ``failed:REASON``, None before.
        ended: when, in Unix seconds.
        end_epochs: how many epochs its end event states, which `epochs` must equal.
        value: the validation accuracy that it is judged by.
        gpus: how many it takes, None where that is not known.
        feasible: whether its last metrics are within the constraints; None before it has ended.
        request: the id of the request that its values are from, see `RequestTaken`.
    """

    number: int
    started: float
    student: str | None
    student_family: str | None
    teacher: str | None
    teacher_family: str | None
    pairing: str
    dataset: str | None
    seed: int | None
    epochs_per_seed: int | None
    params: dict[str, Any]
    epochs: int = 0
    metrics: dict[str, float | None] = field(default_factory=dict)
    first_seed: dict[str, float | None] | None = None
    seconds: float = 0.0
    gpus: float | None = None
    end: str | None = None
    ended: float | None = None
    end_epochs: int | None = None
    value: float | None = None
    feasible: bool | None = None
    request: str | None = None

    @property
    def state(self) -> TrialEnd | None:
        """How it ended, without the reason; None before."""
        return None if self.end is None else end_state(self.end)

    @property
    def eligible(self) -> bool:
        """Whether it may be its arm's best: trained to the end, within the constraints, with a value."""
        return self.end == "finished" and self.feasible is not False and self.value is not None


@dataclass(slots=True)
class SearchRecord:
    """One search, that is one arm on one data set in one replicate: its trials and their results.

    Attributes:
        name: of the search, see `supersnn.records.searches`.
        arm, dataset, replicate: what it is; `dataset` is the label of its data set, None where the sweep has only one
            under `dataset`.
        trials: by number.
        running: the epoch that each trial under way has reached.
        counts: how many trials have ended in each way.
        epochs: how many epochs all trials have had together, `ended_epochs` those that have ended.
        best: the number of the best trial; see `better`.
        winner: the last choice of a winner.
        ranked, verified: final runs by trial and seed.
    """

    name: str
    arm: str
    dataset: str | None = None
    replicate: int = 0
    trials: dict[int, TrialRecord] = field(default_factory=dict)
    running: dict[int, int] = field(default_factory=dict)
    counts: dict[TrialEnd, int] = field(default_factory=lambda: {"finished": 0, "stopped": 0, "failed": 0})
    epochs: int = 0
    ended_epochs: int = 0
    best: int | None = None
    winner: WinnerChosen | None = None
    ranked: dict[int, dict[int, TrialRanked]] = field(default_factory=dict)
    verified: dict[int, dict[int, WinnerVerified]] = field(default_factory=dict)

    @property
    def ended(self) -> int:
        """How many trials have ended."""
        return sum(self.counts.values())

    @property
    def best_trial(self) -> TrialRecord | None:
        """The best trial: the highest value among those trained to the end within the constraints."""
        best = self.best  # once: another thread may be drawing while it changes
        return None if best is None else self.trials[best]

    @property
    def best_value(self) -> float | None:
        """The validation accuracy of the best trial."""
        trial = self.best_trial
        return None if trial is None else trial.value

    @property
    def verified_trial(self) -> int | None:
        """The winner; before one is chosen, the trial that was verified last."""
        return self.winner.trial if self.winner is not None else next(reversed(self.verified), None)

    def final_runs(self) -> list[WinnerVerified]:
        """Return the winner's verified trainings by seed; before a winner is chosen, those of the latest trial."""
        trial = self.verified_trial
        runs = self.verified.get(trial, {}) if trial is not None else {}
        return [runs[seed] for seed in sorted(runs)]

    def validation(self, by_search: bool) -> float | None:
        """Return the validation accuracy by which winners are compared: the mean over the winner's final runs.

        Args:
            by_search: the winner's value in the search instead, for final runs that were trained on the validation
                images.
        """
        accuracy = measures.mean_of((run.metrics for run in self.final_runs()), measures.VAL_ACCURACY.key)
        return self.winner.value if by_search and self.winner is not None else accuracy


@dataclass(slots=True)
class DriverSession:
    """One driver, times in Unix seconds.

    Attributes:
        driver: its token, `code` its version of this package, `versions` those of the libraries.
        began, last: its first event and its last one so far.
        training: when it began to train students.
        searched: when its last trial ended.
        epochs: how many epochs of students it has trained, final runs included.
        ended: how many trials have ended.
        end: how it ended; None while it is at work, and for ever if it was killed.
    """

    driver: str
    code: str | None
    versions: dict[str, str]
    began: float
    last: float
    training: float
    searched: float
    epochs: int = 0
    ended: int = 0
    end: DriverEnd | None = None


_BEFORE_TRAINING = (SweepStarted, DatasetSplit, TeacherTrained, TeacherCached, TrialStarted)
"""The events before a driver's first epoch of a student: with the last of them it begins to train students."""


@dataclass(slots=True)
class SweepState:
    """The state of a sweep after some of its events.

    Attributes:
        constraints: the sweep's `search.constraints`, for journals of schema 1, whose ends of trials lack
            `feasible`.
        searches: by name, in the order of their first trials.
        drivers: every driver, in order.
        datasets: the labels of the sweep's `datasets`, each with a digest of what it stands for; empty where the sweep
            has one data set under `dataset`. `replicates`: how many searches each arm has on each.
        splits: the images and their splits, by data set and replicate: `split_of` finds that of a search.
        teachers, refitted: by digest. `caches`: by the cache's digest.
        exports: the export folders that have all final runs so far, by arm (`OVERALL` for the best one) and data set.
        searching: whether trials are being searched for, not ranked or verified.
        training_seconds: of all trials' trainings together.
        gpu_seconds: of the GPUs that they took, `seconds_on_unknown` of those whose events do not say.
        updated: the time of the last event.
        sweep_id, config: the first and the last that a driver's start has, see `SweepStarted`.
        orphans: trials that have events, but no start: a search, a number, and the kind of the event.
        faults: a line of text for what could not be read of the journal.
        requests: what people asked for while the sweep ran, by id, see `supersnn.records.steering`.
    """

    constraints: dict[str, float] = field(default_factory=dict)
    searches: dict[str, SearchRecord] = field(default_factory=dict)
    drivers: list[DriverSession] = field(default_factory=list)
    datasets: dict[str, str] = field(default_factory=dict)
    replicates: int = 1
    splits: dict[str, DatasetSplit] = field(default_factory=dict)
    teachers: dict[str, TeacherTrained] = field(default_factory=dict)
    caches: dict[str, TeacherCached] = field(default_factory=dict)
    refitted: dict[str, TeacherRefitted] = field(default_factory=dict)
    exports: dict[str, WinnerExported] = field(default_factory=dict)
    searching: bool = True
    training_seconds: float = 0.0
    gpu_seconds: float = 0.0
    seconds_on_unknown: float = 0.0
    updated: float | None = None
    orphans: set[tuple[str, int, str]] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)
    sweep_id: str | None = None
    config: str | None = None
    requests: dict[str, RequestTaken] = field(default_factory=dict)

    def apply(self, event: AnyEvent) -> bool:
        """Take the next event; return False where it adds nothing, as a repeated epoch does."""
        new, epochs = True, 0
        match event:
            case EpochReported():
                new = self._epoch(event)
                epochs = int(new)
            case TrialStarted():
                self._start(event)
            case TrialEnded():
                new = self._end(event)
            case SweepStarted():
                self._begin(event)
            case SweepClosed():
                self._close(event)
            case DatasetSplit():
                new = _add(self.splits, str(self._id("", event.label, event.replicate)), event)
            case TeacherTrained():
                new = _add(self.teachers, event.digest, event)
            case TeacherCached():
                new = _add(self.caches, event.digest, event)
            case TeacherRefitted():
                new = _add(self.refitted, event.digest, event)
            case WinnerChosen():
                search = self.search_of(event)
                before = search.winner
                new = before is None or (before.trial, before.value) != (event.trial, event.value)
                search.winner, self.searching = event, False
                if new:
                    self._needs_export(event)
            case TrialRanked():
                new = _add(self.search_of(event).ranked.setdefault(event.trial, {}), event.seed, event)
                self.searching = False
                epochs = self._epochs_per_seed(event) if new else 0
            case WinnerVerified():
                new = _add(self.search_of(event).verified.setdefault(event.trial, {}), event.seed, event)
                if new:
                    self._needs_export(event)
                epochs = self._epochs_per_seed(event) if new else 0
            case RequestTaken():
                new = _add(self.requests, event.id, event)
                if new and event.refused is None:
                    self.config = event.config or self.config
            case WinnerExported():
                copied = event.best is not None or event.folder.endswith(OVERALL)
                self.exports[self._export_key(OVERALL if copied else event.arm, event.dataset)] = event
        self._account(event, new, epochs)
        return new

    def search_name(self, event: SearchEvent) -> str:
        """Return the name of the search that an event is about."""
        if event.dataset is None and not event.replicate:
            return event.arm
        return str(self._id(event.arm, event.dataset, event.replicate))

    def search_id(self, arm: str, dataset: str | None = None, replicate: int = 0) -> str:
        """Return the name of the search of an arm on a data set (the first one by default) in a replicate."""
        return str(self._id(arm, dataset, replicate))

    def search_of(self, event: SearchEvent) -> SearchRecord:
        """Return the search that an event is about, which may have no trial yet."""
        name = self.search_name(event)
        if name not in self.searches:
            label = event.dataset or next(iter(self.datasets), None)
            self.searches[name] = SearchRecord(name, event.arm, label, event.replicate)
        return self.searches[name]

    def search(self, name: str) -> SearchRecord:
        """Return a search by its name, which is its arm's for an arm's first one; an empty one if it has no events."""
        if name in self.searches:
            return self.searches[name]
        found = SearchId.parse(name)
        return SearchRecord(name, found.arm, found.dataset or next(iter(self.datasets), None), found.replicate)

    def trial(self, search: str, number: int) -> TrialRecord | None:
        """Return a trial of a search, None where there is no such one."""
        return self.searches[search].trials.get(number) if search in self.searches else None

    def trials(self) -> Iterator[tuple[Key, TrialRecord]]:
        """Yield every trial with its search's name and its number, search by search."""
        for name, search in self.searches.items():
            for number, trial in search.trials.items():
                yield (name, number), trial

    def searches_of(self, arm: str, dataset: str | None = None) -> list[SearchRecord]:
        """Return the searches of an arm on a data set, by replicate; on the first data set by default."""
        label = self._id(arm, dataset, 0).dataset
        found = (one for one in self.searches.values() if one.arm == arm and self._label(one.dataset) == label)
        return sorted(found, key=lambda search: search.replicate)

    def best_search(self, by_search: bool, dataset: str | None = None, arm: str | None = None) -> SearchRecord | None:
        """Return the search with the best winner by validation, the first of equal ones; None before any is verified.

        Args:
            by_search: compare by the winners' values in the search; see `SearchRecord.validation`.
            dataset: compare on this data set; on the first one by default.
            arm: compare the replicates of this arm only.
        """
        arms = [arm] if arm is not None else dict.fromkeys(search.arm for search in self.searches.values())
        verified = [
            search
            for name in arms
            for search in self.searches_of(name, dataset)
            if search.winner is not None and search.final_runs()
        ]
        values = {search.name: search.validation(by_search) for search in verified}
        return max(verified, key=lambda one: _or_least(values[one.name]), default=None)

    def exported(self, arm: str = OVERALL, dataset: str | None = None) -> WinnerExported | None:
        """Return the export folder of an arm's best winner on a data set, None where it is still to be written.

        Args:
            arm: the arm; by default the data set's best one.
            dataset: the data set's label; the first one by default.
        """
        return self.exports.get(self._export_key(arm, dataset))

    def stop_running(self) -> None:
        """Forget what was under way: its driver is gone."""
        for search in self.searches.values():
            search.running.clear()

    @property
    def identity(self) -> str | None:
        """The sweep's identity; in journals without one it follows from their first driver. None before any driver."""
        if self.sweep_id is None and self.drivers:
            return digest(self.drivers[0].driver, self.drivers[0].began)
        return self.sweep_id

    @property
    def ran(self) -> bool:
        """Whether anything was done: images split, a teacher trained, a trial started."""
        worked = (one.trials or one.ranked or one.verified or one.winner for one in self.searches.values())
        return bool(self.splits or self.teachers or self.caches or self.orphans) or any(worked)

    @property
    def data(self) -> DatasetSplit | None:
        """The images of the first data set and their split in replicate 0, once known."""
        return self.splits.get("", next(iter(self.splits.values()), None))

    @property
    def split(self) -> str | None:
        """The fingerprint of the first split, from the first event that has it; see `split_of`."""
        known = [self.data.split if self.data else None, *(teacher.split for teacher in self.teachers.values())]
        return next((split for split in known if split), None)

    @property
    def ended(self) -> DriverEnd | None:
        """How the last driver ended; None while it is at work, and after one that was killed."""
        return self.drivers[-1].end if self.drivers else None

    def driver_seconds(self, now: float | None = None) -> float:
        """Return the seconds in which a driver was at work; `now` where one still is."""
        seconds = sum(session.last - session.began for session in self.drivers)
        return seconds + (max(0.0, now - self.drivers[-1].last) if now is not None and self.drivers else 0.0)

    def data_of(self, dataset: str | None = None, replicate: int = 0) -> DatasetSplit | None:
        """Return the images and their split of a data set in a replicate, which may share that of replicate 0."""
        names = (str(self._id("", dataset, number)) for number in (replicate, 0))
        return next((self.splits[name] for name in names if name in self.splits), None)

    def split_of(self, dataset: str | None = None, replicate: int = 0) -> str | None:
        """Return the fingerprint of a data set's split in a replicate, None where it is not known."""
        data = self.data_of(dataset, replicate)
        return data.split if data is not None else None if self._id("", dataset, 0).dataset else self.split

    def teacher_named(
        self, name: str, refitted: bool = False, dataset: str | None = None, replicate: int = 0
    ) -> TeacherTrained | TeacherRefitted | None:
        """Return the last teacher of an architecture; `refitted`: the one that the final runs had.

        That is the teacher on a data set in a replicate, which may share that of replicate 0.
        """
        among: Mapping[str, TeacherTrained | TeacherRefitted] = self.refitted if refitted else self.teachers
        return next(self._in_replicate((one for one in among.values() if one.name == name), dataset, replicate), None)

    def cache_seconds(self, teacher: str, dataset: str | None = None, replicate: int = 0) -> float:
        """Return the seconds that the caches of a teacher took to compute, on a data set in a replicate."""
        caches = (cache for cache in self.caches.values() if cache.teacher == teacher)
        return sum(cache.seconds for cache in self._in_replicate(caches, dataset, replicate))

    def _in_replicate(self, events: Iterable[E], dataset: str | None, replicate: int) -> Iterator[E]:
        """Yield the events, the last first, of a data set in a replicate, or else in replicate 0, which it shares."""
        label = self._id("", dataset, 0).dataset
        there = [event for event in events if self._label(event.dataset) == label][::-1]
        own = [event for event in there if event.replicate == replicate]
        yield from own or (event for event in there if not event.replicate)

    def _label(self, dataset: str | None) -> str | None:
        """Return a data set's label as names of searches have it: None for the first one."""
        return None if dataset == next(iter(self.datasets), None) else dataset

    def _id(self, arm: str, dataset: str | None, replicate: int) -> SearchId:
        return SearchId(arm, self._label(dataset), replicate)

    def _export_key(self, arm: str, dataset: str | None) -> str:
        return str(self._id(arm, dataset, 0))

    def _begin(self, event: SweepStarted) -> None:
        self.stop_running()
        self.sweep_id = self.sweep_id or event.sweep_id
        self.config = event.config or self.config
        self.replicates = event.replicates
        self._name_datasets(event.datasets)
        times = event.time, event.time, event.time, event.time
        self.drivers.append(DriverSession(event.driver, event.code, event.versions, *times))

    def _close(self, event: SweepClosed) -> None:
        self.stop_running()
        if self.drivers:
            self.drivers[-1].end = event.end

    def _name_datasets(self, datasets: Mapping[str, str]) -> None:
        """Take the labels of data sets; what the only data set of the sweep had before belongs to the first one."""
        if not datasets:
            return
        self.datasets = dict(datasets)
        for search in self.searches.values():
            search.dataset = search.dataset or next(iter(datasets))

    def _needs_export(self, event: WinnerChosen | WinnerVerified) -> None:
        """Note that an arm's export folder is out of date, and with it that of the best arm."""
        for arm in (event.arm, OVERALL):
            self.exports.pop(self._export_key(arm, event.dataset), None)

    def _start(self, event: TrialStarted) -> None:
        search = self.search_of(event)
        self.searching = True
        if event.trial not in search.trials:
            search.trials[event.trial] = _record(event)
        elif search.trials[event.trial].end is not None:
            self._reopen(search, search.trials[event.trial])
        search.trials[event.trial].gpus = event.gpus
        search.running[event.trial] = event.resumed_at

    def _epoch(self, event: EpochReported) -> bool:
        search = self.search_of(event)
        trial = search.trials.get(event.trial)
        if trial is None:
            self.orphans.add((search.name, event.trial, event.event))
            return False
        if trial.end is None:
            search.running[event.trial] = event.epoch
        if event.epoch <= trial.epochs:
            return False
        search.epochs += event.epoch - trial.epochs
        trial.epochs, trial.metrics = event.epoch, event.metrics
        seconds = event.metrics.get(measures.EPOCH_SECONDS.key) or 0.0
        trial.seconds += seconds
        self.training_seconds += seconds
        if trial.gpus is None:
            self.seconds_on_unknown += seconds
        else:
            self.gpu_seconds += trial.gpus * seconds
        if event.epoch == trial.epochs_per_seed:
            trial.first_seed = event.metrics
        trial.value = measures.judged(event.metrics).get(measures.VAL_ACCURACY.key, trial.value)
        return True

    def _end(self, event: TrialEnded) -> bool:
        search = self.search_of(event)
        trial = search.trials.get(event.trial)
        if trial is None:
            self.orphans.add((search.name, event.trial, event.event))
            return False
        search.running.pop(event.trial, None)
        if trial.end is not None:
            return False
        trial.end, trial.ended, trial.end_epochs = event.end, event.time, event.epochs
        trial.value = trial.value if event.value is None else event.value
        known = event.feasible
        trial.feasible = measures.feasible(trial.metrics, self.constraints) if known is None else known
        search.counts[event.state] += 1
        search.ended_epochs += trial.epochs
        if trial.eligible and better(trial, search.best_trial):
            search.best = trial.number
        return True

    def _reopen(self, search: SearchRecord, trial: TrialRecord) -> None:
        """Take back the end of a trial that is run again."""
        assert trial.state is not None
        search.counts[trial.state] -= 1
        search.ended_epochs -= trial.epochs
        trial.end = trial.ended = trial.end_epochs = trial.feasible = None
        if search.best == trial.number:
            search.best = None
            for other in search.trials.values():
                if other.eligible and better(other, search.best_trial):
                    search.best = other.number

    def _epochs_per_seed(self, event: TrialRanked | WinnerVerified) -> int:
        trial = self.trial(self.search_name(event), event.trial)
        return (trial.epochs_per_seed or 0) if trial is not None else 0

    def _account(self, event: AnyEvent, new: bool, epochs: int) -> None:
        """Update the session of the driver that wrote an event."""
        self.updated = max(self.updated or 0.0, event.time)
        if not self.drivers:
            return
        session = self.drivers[-1]
        session.last = max(session.last, event.time)
        session.epochs += epochs
        if isinstance(event, TrialEnded) and new:
            session.ended, session.searched = session.ended + 1, event.time
        if isinstance(event, _BEFORE_TRAINING) and not session.epochs:
            session.training = event.time


def better(trial: TrialRecord, than: TrialRecord | None) -> bool:
    """Return whether an eligible trial is better than another, or is the first; see `rank`.

    This is the one definition of the best trial; the study of a search ranks its trials by `rank` as well.
    """
    if than is None:
        return True
    assert trial.value is not None
    assert than.value is not None
    return rank(trial.value, trial.number) < rank(than.value, than.number)


def _add(known: dict[K, V], key: K, value: V) -> bool:
    """Add a value unless there is one already; return whether it was added."""
    if key in known:
        return False
    known[key] = value
    return True


def _or_least(value: float | None) -> float:
    return float("-inf") if value is None else value


def rank(value: float, number: int) -> tuple[float, int]:
    """Return what orders trials, the best first: by their values, equal ones by their numbers."""
    return -value, number


def _record(event: TrialStarted) -> TrialRecord:
    """Return a new trial; families that the event does not state follow from the architectures' names."""
    student, teacher = event.config.get("student.architecture"), event.config.get("teacher.name")
    student_family = event.student_family or (family(student) if student else None)
    teacher_family = event.teacher_family or (family(teacher) if teacher else None)
    return TrialRecord(
        number=event.trial,
        started=event.time,
        student=student,
        student_family=student_family,
        teacher=teacher,
        teacher_family=teacher_family,
        pairing=event.pairing or pairing(student_family or "", teacher_family),
        dataset=event.config.get("dataset.name"),
        seed=event.config.get("seed"),
        epochs_per_seed=event.config.get("train.epochs"),
        params=event.params,
        request=event.request,
    )
