"""What a sweep's events add up to: its trials, their best, winners, final runs, teachers and drivers.

`SweepState.apply` is the only place where events become state. It keeps no event but the few that are results
themselves, so that its size follows from the number of trials, not from that of the epochs.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from supersnn.config_model import digest
from supersnn.records import metrics as measures
from supersnn.records.events import (
    AnyEvent,
    DatasetSplit,
    DriverEnd,
    EpochReported,
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

K = TypeVar("K")
V = TypeVar("V")
Key = tuple[str, int]
"""A trial's arm and number."""


@dataclass(slots=True)
class TrialRecord:
    """One trial.

    Attributes:
        number: of the trial in its arm.
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
        feasible: whether its last metrics are within the constraints; None before it has ended.
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
    end: str | None = None
    ended: float | None = None
    end_epochs: int | None = None
    value: float | None = None
    feasible: bool | None = None

    @property
    def state(self) -> TrialEnd | None:
        """How it ended, without the reason; None before."""
        return None if self.end is None else end_state(self.end)

    @property
    def eligible(self) -> bool:
        """Whether it may be its arm's best: trained to the end, within the constraints, with a value."""
        return self.end == "finished" and self.feasible is not False and self.value is not None


@dataclass(slots=True)
class ArmRecord:
    """One arm: its trials and their results.

    Attributes:
        name: of the arm.
        trials: by number.
        running: the epoch that each trial under way has reached.
        counts: how many trials have ended in each way.
        epochs: how many epochs all trials have had together, `ended_epochs` those that have ended.
        best: the number of the best trial; see `better`.
        winner: the last choice of a winner.
        ranked, verified: final runs by trial and seed.
        exported: the export folder of the winner with all of its final runs so far; None where it is still to be
            written.
    """

    name: str
    trials: dict[int, TrialRecord] = field(default_factory=dict)
    running: dict[int, int] = field(default_factory=dict)
    counts: dict[TrialEnd, int] = field(default_factory=lambda: {"finished": 0, "stopped": 0, "failed": 0})
    epochs: int = 0
    ended_epochs: int = 0
    best: int | None = None
    winner: WinnerChosen | None = None
    ranked: dict[int, dict[int, TrialRanked]] = field(default_factory=dict)
    verified: dict[int, dict[int, WinnerVerified]] = field(default_factory=dict)
    exported: WinnerExported | None = None

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
        arms: by name, in the order of their first trials.
        drivers: every driver, in order.
        data: the images and their split, once known.
        teachers, refitted: by digest. `caches`: by the cache's digest.
        overall: the export folder of the best arm; None where it is still to be written.
        searching: whether trials are being searched for, not ranked or verified.
        training_seconds: of all trials' trainings together.
        updated: the time of the last event.
        sweep_id, config: the first and the last that a driver's start has, see `SweepStarted`.
        orphans: trials that have events, but no start: an arm, a number, and the kind of the event.
        faults: a line of text for what could not be read of the journal.
    """

    constraints: dict[str, float] = field(default_factory=dict)
    arms: dict[str, ArmRecord] = field(default_factory=dict)
    drivers: list[DriverSession] = field(default_factory=list)
    data: DatasetSplit | None = None
    teachers: dict[str, TeacherTrained] = field(default_factory=dict)
    caches: dict[str, TeacherCached] = field(default_factory=dict)
    refitted: dict[str, TeacherRefitted] = field(default_factory=dict)
    overall: WinnerExported | None = None
    searching: bool = True
    training_seconds: float = 0.0
    updated: float | None = None
    orphans: set[tuple[str, int, str]] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)
    sweep_id: str | None = None
    config: str | None = None

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
                self.data = self.data or event
            case TeacherTrained():
                new = _add(self.teachers, event.digest, event)
            case TeacherCached():
                new = _add(self.caches, event.digest, event)
            case TeacherRefitted():
                new = _add(self.refitted, event.digest, event)
            case WinnerChosen():
                before = self.arm(event.arm).winner
                new = before is None or (before.trial, before.value) != (event.trial, event.value)
                self.arm(event.arm).winner, self.searching = event, False
                if new:
                    self._needs_export(event.arm)
            case TrialRanked():
                new = _add(self.arm(event.arm).ranked.setdefault(event.trial, {}), event.seed, event)
                self.searching = False
                epochs = self._epochs_per_seed(event) if new else 0
            case WinnerVerified():
                new = _add(self.arm(event.arm).verified.setdefault(event.trial, {}), event.seed, event)
                if new:
                    self._needs_export(event.arm)
                epochs = self._epochs_per_seed(event) if new else 0
            case WinnerExported():
                self._export(event)
        self._account(event, new, epochs)
        return new

    def arm(self, name: str) -> ArmRecord:
        """Return an arm, which may have no trial yet."""
        if name not in self.arms:
            self.arms[name] = ArmRecord(name)
        return self.arms[name]

    def trial(self, arm: str, number: int) -> TrialRecord | None:
        """Return a trial, None where there is no such one."""
        return self.arms[arm].trials.get(number) if arm in self.arms else None

    def trials(self) -> Iterator[tuple[Key, TrialRecord]]:
        """Yield every trial with its arm and number, arm by arm."""
        for name, arm in self.arms.items():
            for number, trial in arm.trials.items():
                yield (name, number), trial

    def best_arm(self, by_search: bool) -> str | None:
        """Return the arm with the best winner, the first of equal ones; None where no arm has a verified one.

        Args:
            by_search: by the winners' values in the search, not by the mean validation accuracy of their final runs:
                for final runs that were trained on the validation images.
        """

        def worth(arm: ArmRecord) -> float:
            accuracy = measures.mean_of((run.metrics for run in arm.final_runs()), measures.VAL_ACCURACY.key)
            value = arm.winner.value if by_search and arm.winner is not None else accuracy
            return float("-inf") if value is None else value

        verified = [arm for arm in self.arms.values() if arm.winner is not None and arm.final_runs()]
        return max(verified, key=worth).name if verified else None

    def stop_running(self) -> None:
        """Forget what was under way: its driver is gone."""
        for arm in self.arms.values():
            arm.running.clear()

    @property
    def identity(self) -> str | None:
        """The sweep's identity; in journals without one it follows from their first driver. None before any driver."""
        if self.sweep_id is None and self.drivers:
            return digest(self.drivers[0].driver, self.drivers[0].began)
        return self.sweep_id

    @property
    def ran(self) -> bool:
        """Whether anything was done: images split, a teacher trained, a trial started."""
        worked = (arm.trials or arm.ranked or arm.verified or arm.winner for arm in self.arms.values())
        return bool(self.data or self.teachers or self.caches or self.orphans) or any(worked)

    @property
    def split(self) -> str | None:
        """The fingerprint of the split, from the first event that has it."""
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

    def teacher_named(self, name: str, refitted: bool = False) -> TeacherTrained | TeacherRefitted | None:
        """Return the last teacher of an architecture; `refitted`: the one that the final runs had."""
        among: Mapping[str, TeacherTrained | TeacherRefitted] = self.refitted if refitted else self.teachers
        return next((teacher for teacher in reversed(list(among.values())) if teacher.name == name), None)

    def cache_seconds(self, teacher: str) -> float:
        """Return the seconds that the caches of a teacher took to compute."""
        return sum(cache.seconds for cache in self.caches.values() if cache.teacher == teacher)

    def _begin(self, event: SweepStarted) -> None:
        self.stop_running()
        self.sweep_id = self.sweep_id or event.sweep_id
        self.config = event.config or self.config
        times = event.time, event.time, event.time, event.time
        self.drivers.append(DriverSession(event.driver, event.code, event.versions, *times))

    def _close(self, event: SweepClosed) -> None:
        self.stop_running()
        if self.drivers:
            self.drivers[-1].end = event.end

    def _needs_export(self, arm: str) -> None:
        """Note that an arm's export folder is out of date, and with it that of the best arm."""
        self.arm(arm).exported = self.overall = None

    def _export(self, event: WinnerExported) -> None:
        if event.arm in self.arms and not event.folder.endswith("overall"):
            self.arms[event.arm].exported = event
        else:
            self.overall = event

    def _start(self, event: TrialStarted) -> None:
        arm = self.arm(event.arm)
        self.searching = True
        if event.trial not in arm.trials:
            arm.trials[event.trial] = _record(event)
        elif arm.trials[event.trial].end is not None:
            self._reopen(arm, arm.trials[event.trial])
        arm.running[event.trial] = event.resumed_at

    def _epoch(self, event: EpochReported) -> bool:
        arm, trial = self.arm(event.arm), self.trial(event.arm, event.trial)
        if trial is None:
            self.orphans.add((event.arm, event.trial, event.event))
            return False
        if trial.end is None:
            arm.running[event.trial] = event.epoch
        if event.epoch <= trial.epochs:
            return False
        arm.epochs += event.epoch - trial.epochs
        trial.epochs, trial.metrics = event.epoch, event.metrics
        seconds = event.metrics.get(measures.EPOCH_SECONDS.key) or 0.0
        trial.seconds += seconds
        self.training_seconds += seconds
        if event.epoch == trial.epochs_per_seed:
            trial.first_seed = event.metrics
        trial.value = measures.judged(event.metrics).get(measures.VAL_ACCURACY.key, trial.value)
        return True

    def _end(self, event: TrialEnded) -> bool:
        arm, trial = self.arm(event.arm), self.trial(event.arm, event.trial)
        if trial is None:
            self.orphans.add((event.arm, event.trial, event.event))
            return False
        arm.running.pop(event.trial, None)
        if trial.end is not None:
            return False
        trial.end, trial.ended, trial.end_epochs = event.end, event.time, event.epochs
        trial.value = trial.value if event.value is None else event.value
        known = event.feasible
        trial.feasible = measures.feasible(trial.metrics, self.constraints) if known is None else known
        arm.counts[event.state] += 1
        arm.ended_epochs += trial.epochs
        if trial.eligible and better(trial, arm.best_trial):
            arm.best = trial.number
        return True

    def _reopen(self, arm: ArmRecord, trial: TrialRecord) -> None:
        """Take back the end of a trial that is run again."""
        assert trial.state is not None
        arm.counts[trial.state] -= 1
        arm.ended_epochs -= trial.epochs
        trial.end = trial.ended = trial.end_epochs = trial.feasible = None
        if arm.best == trial.number:
            arm.best = None
            for other in arm.trials.values():
                if other.eligible and better(other, arm.best_trial):
                    arm.best = other.number

    def _epochs_per_seed(self, event: TrialRanked | WinnerVerified) -> int:
        trial = self.trial(event.arm, event.trial)
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

    This is the one definition of the best trial; the study of an arm ranks its trials by `rank` as well.
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
    )
