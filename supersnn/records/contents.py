"""What is known of a sweep, and what can be asked of it: searches, trials, the best of them, teachers, times.

Nothing here changes what is known; `supersnn.records.state` does.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from supersnn.digests import digest
from supersnn.records.costs import Costs
from supersnn.records.driver_session import DriverSession
from supersnn.records.events import (
    DatasetSplit,
    DriverEnd,
    EpochReported,
    PrecisionLooked,
    RequestTaken,
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
from supersnn.records.failure_events import AttemptFailed
from supersnn.records.nodes import NodeRecord
from supersnn.records.search_state import SearchRecord
from supersnn.records.searches import SearchId
from supersnn.records.trial_state import TrialRecord

SearchEvent = (
    TrialStarted
    | EpochReported
    | AttemptFailed
    | TrialEnded
    | TrialRanked
    | WinnerChosen
    | WinnerVerified
    | WinnerExported
)
"""The events that are about one search."""
E = TypeVar("E", TeacherTrained, TeacherRefitted, TeacherTrained | TeacherRefitted, TeacherCached)
Key = tuple[str, int]
"""A trial's search, by its name, and number."""
OVERALL = "overall"
"""What takes the place of the arm for the export of a data set's best arm."""


@dataclass(slots=True)
class SweepContents:
    """What is known of a sweep.

    Attributes:
        constraints: the sweep's `search.constraints`, for journals of schema 1, whose ends of trials lack
            `feasible`.
        searches: by name, in the order of their first trials.
        drivers: every driver, in order.
        datasets: the labels of the sweep's `datasets`, each with a digest of what it stands for; empty where the sweep
            has one data set under `dataset`. `replicates`: how many searches each arm has on each.
        splits: the images and their splits, by data set and replicate: `split_of` finds that of a search.
        teachers, refitted: by digest. `caches`: by the cache's digest.
        looks: what the driver found each time that it looked at how well the differences are known.
        exports: the export folders that have all final runs so far, by arm (`OVERALL` for the best one) and data set.
        searching: whether trials are being searched for, not ranked or verified.
        training_seconds: of all trials' trainings together.
        costs: what all trainings took, teachers and final runs included.
        nodes: those that have trained trials, by name.
        updated: the time of the last event.
        sweep_id, config: the first and the last that a driver's start has, see `SweepStarted`.
        orphans: trials that have events, but no start: a search, a number, and the kind of the event.
        faults: a line of text for what could not be read of the journal.
        requests: what people asked for while the sweep ran, by id, see `supersnn.records.steering`.
        outdated: the keys of changes that no longer hold, each with how many requests were older than the file's newer
            value, see `SweepStarted`.
        waiting: what the driver waits for; empty where it works.
        failed_on: how many attempts have failed because of the machine, by node; ``""`` where that is not known.
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
    costs: Costs = field(default_factory=Costs)
    nodes: dict[str, NodeRecord] = field(default_factory=dict)
    updated: float | None = None
    orphans: set[tuple[str, int, str]] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)
    sweep_id: str | None = None
    config: str | None = None
    requests: dict[str, RequestTaken] = field(default_factory=dict)
    outdated: dict[str, int] = field(default_factory=dict)
    waiting: str = ""
    failed_on: dict[str, int] = field(default_factory=dict)
    looks: list[PrecisionLooked] = field(default_factory=list)

    def search_name(self, event: SearchEvent) -> str:
        """Return the name of the search that an event is about."""
        if event.dataset is None and not event.replicate:
            return event.arm
        return str(self._id(event.arm, event.dataset, event.replicate))

    def search_id(self, arm: str, dataset: str | None = None, replicate: int = 0) -> str:
        """Return the name of the search of an arm on a data set (the first one by default) in a replicate."""
        return str(self._id(arm, dataset, replicate))

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
        """Return the seconds in which a driver was at work, without those in which all that was left was paused.

        Args:
            now: the time, where a driver still is at work.
        """
        seconds = sum(session.last - session.began - session.idle for session in self.drivers)
        if now is None or not self.drivers or self.drivers[-1].paused:
            return seconds
        return seconds + max(0.0, now - self.drivers[-1].last)

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


def _or_least(value: float | None) -> float:
    return float("-inf") if value is None else value
