"""What a sweep's events add up to: its trials, their best, winners, final runs, teachers and drivers.

`SweepState.apply` is the only place where events become state. It keeps no event but the few that are results
themselves, so that its size follows from the number of trials, not from that of the epochs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from supersnn.records import metrics as measures
from supersnn.records.contents import OVERALL, SearchEvent, SweepContents
from supersnn.records.costs import Part
from supersnn.records.driver_session import DriverSession
from supersnn.records.events import (
    AnyEvent,
    DatasetSplit,
    EpochReported,
    PrecisionLooked,
    RequestTaken,
    SweepClosed,
    SweepStarted,
    TeacherCached,
    TeacherRefitted,
    TeacherTrained,
    TrialEnded,
    TrialRanked,
    TrialStarted,
    WinnerChosen,
    WinnerExported,
    WinnerVerified,
)
from supersnn.records.failure_events import AttemptFailed, DriverWaits
from supersnn.records.nodes import NodeRecord
from supersnn.records.search_state import SearchRecord
from supersnn.records.trial_state import TrialRecord, better, new_trial

K = TypeVar("K")
V = TypeVar("V")
_BEFORE_TRAINING = (SweepStarted, DatasetSplit, TeacherTrained, TeacherCached, TrialStarted)
"""The events before a driver's first epoch of a student: with the last of them it begins to train students."""


@dataclass(slots=True)
class SweepState(SweepContents):
    """The state of a sweep after some of its events."""

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
            case AttemptFailed():
                self._attempt(event)
            case DriverWaits():
                if event.paused:
                    self.stop_running()
                self.waiting = event.reason
            case SweepStarted():
                self._begin(event)
            case SweepClosed():
                self._close(event)
            case DatasetSplit():
                new = _add(self.splits, str(self._id("", event.label, event.replicate)), event)
            case TeacherTrained():
                new = _add(self.teachers, event.digest, event)
                self._spend("teachers", event.took, event.gpus, new)
            case TeacherCached():
                new = _add(self.caches, event.digest, event)
                self._spend("teachers", event.took, event.gpus, new)
            case TeacherRefitted():
                new = _add(self.refitted, event.digest, event)
                self._spend("refits", event.took, event.gpus, new)
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
                self._spend("final runs", event.seconds, event.gpus, new)
            case WinnerVerified():
                new = _add(self.search_of(event).verified.setdefault(event.trial, {}), event.seed, event)
                if new:
                    self._needs_export(event)
                epochs = self._epochs_per_seed(event) if new else 0
                self._spend("final runs", event.seconds, event.gpus, new)
            case PrecisionLooked():
                self.looks.append(event)
                self.replicates = event.next
            case RequestTaken():
                new = _add(self.requests, event.id, event)
                if new and event.refused is None:
                    self.config = event.config or self.config
            case WinnerExported():
                copied = event.best is not None or event.folder.endswith(OVERALL)
                self.exports[self._export_key(OVERALL if copied else event.arm, event.dataset)] = event
        self._account(event, new, epochs)
        return new

    def search_of(self, event: SearchEvent) -> SearchRecord:
        """Return the search that an event is about, which may have no trial yet."""
        name = self.search_name(event)
        if name not in self.searches:
            label = event.dataset or next(iter(self.datasets), None)
            self.searches[name] = SearchRecord(name, event.arm, label, event.replicate)
        return self.searches[name]

    def stop_running(self) -> None:
        """Forget what was under way: its driver is gone, or has nothing that it may run."""
        self.waiting = ""
        for search in self.searches.values():
            search.running.clear()

    def _begin(self, event: SweepStarted) -> None:
        self.stop_running()
        self.sweep_id = self.sweep_id or event.sweep_id
        self.config = event.config or self.config
        self.replicates = event.replicates
        self.outdated |= dict.fromkeys(event.outdated, len(self.requests))
        self._name_datasets(event.datasets)
        times = event.time, event.time, event.time, event.time
        self.drivers.append(DriverSession(event.driver, event.code, event.versions, *times, event.plan))

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
            search.trials[event.trial] = new_trial(event)
        elif search.trials[event.trial].end is not None:
            self._reopen(search, search.trials[event.trial])
        search.trials[event.trial].starts += 1
        search.trials[event.trial].gpus = event.gpus
        search.trials[event.trial].heard, search.trials[event.trial].reports = event.time, False
        search.running[event.trial] = event.resumed_at

    def _epoch(self, event: EpochReported) -> bool:
        search = self.search_of(event)
        trial = search.trials.get(event.trial)
        if trial is None:
            self.orphans.add((search.name, event.trial, event.event))
            return False
        if trial.end is None:
            search.running[event.trial] = event.epoch
            trial.heard, trial.reports = event.time, True
        if event.epoch <= trial.epochs:
            return False
        search.epochs += event.epoch - trial.epochs
        trial.epochs, trial.metrics = event.epoch, event.metrics
        seconds = event.metrics.get(measures.EPOCH_SECONDS.key) or 0.0
        trial.seconds += seconds
        search.slowest = max(search.slowest or 0.0, seconds) or None
        self.training_seconds += seconds
        self.costs.add("search", seconds, trial.gpus)
        self._place(trial, event, seconds)
        if event.epoch == trial.epochs_per_seed:
            trial.first_seed = event.metrics
        trial.value = measures.judged(event.metrics).get(measures.VAL_ACCURACY.key, trial.value)
        return True

    def _spend(self, part: Part, seconds: float | None, gpus: float | None, new: bool) -> None:
        if new:
            self.costs.add(part, seconds, gpus)

    def _place(self, trial: TrialRecord, event: EpochReported, seconds: float) -> None:
        """Note where an epoch was trained: where the last one was, unless the event says that a worker has begun."""
        if event.place is not None:
            trial.node, trial.gpu = event.place.get("node"), event.place.get("gpu")
            if trial.node is not None:
                node = self.nodes.setdefault(trial.node, NodeRecord(trial.node))
                node.trials += 1
                if trial.gpu is not None and trial.gpu not in node.gpus:
                    node.gpus.append(trial.gpu)
        elif trial.node is not None:
            self.nodes[trial.node].add(trial.timed_as, seconds)

    def _attempt(self, event: AttemptFailed) -> None:
        """Note that an attempt has failed: the trial is not under way until it is started again."""
        search = self.search_of(event)
        if (trial := search.trials.get(event.trial)) is None:
            self.orphans.add((search.name, event.trial, event.event))
            return
        search.running.pop(event.trial, None)
        trial.attempts, trial.failure = trial.attempts + 1, event.reason
        if event.kind != "own":
            self.failed_on[event.node or ""] = self.failed_on.get(event.node or "", 0) + 1

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
        if event.state == "failed" and (node := event.node or trial.node) is not None:
            self.nodes.setdefault(node, NodeRecord(node)).failed += 1
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
        if session.paused:
            session.idle += max(0.0, event.time - session.last)
        if isinstance(event, DriverWaits | SweepClosed):
            session.paused = isinstance(event, DriverWaits) and event.paused
        session.last = max(session.last, event.time)
        session.epochs += epochs
        if isinstance(event, TrialEnded) and new:
            session.ended += 1
            session.searched, session.idle_searched = event.time, session.idle
        if isinstance(event, _BEFORE_TRAINING) and not session.epochs:
            session.training, session.idle_before = event.time, session.idle


def _add(known: dict[K, V], key: K, value: V) -> bool:
    """Add a value unless there is one already; return whether it was added."""
    if key in known:
        return False
    known[key] = value
    return True
