"""Which look a final run belongs to, by time, over all sweeps that ask one question.

Verdicts can be seen when a driver has ended as done, when a driver itself looks (`replicates: {until: …}`), and when a
person changes how many final runs there are, or of which trials, while the sweep runs or between two drivers: at the
ends of a sweep. Whoever then begins another sweep of the question, or continues this one, may do so because of what was
seen, and tests again. An end is therefore a look if it is the last one before a sweep of the question began, or before
one was continued after such an end and got more final runs. Sweeps that run side by side are one look together.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from supersnn.nested import flatten
from supersnn.records.driver_session import DriverSession
from supersnn.records.events import RequestTaken
from supersnn.records.state import SweepState
from supersnn.records.steering import PLANNED, granted


@dataclass(frozen=True, slots=True)
class Timeline:
    """What a sweep's looks follow from, in Unix seconds, each in ascending order.

    Attributes:
        began: when its drivers began.
        ends: when verdicts on it could be seen that more final runs may follow from, with the most replicates that were
            planned then: 0 without a plan.
        planned: the same for the final runs after the last of them.
        runs: when its final runs ended, those of earlier winners too.
    """

    began: tuple[float, ...]
    ends: tuple[tuple[float, int], ...]
    planned: int
    runs: tuple[float, ...]

    def at_most(self, time: float) -> int:
        """Return the most replicates that were planned when a final run of this time could first be looked at."""
        return next((most for end, most in self.ends if end >= time), self.planned)

    def continued(self) -> Iterator[tuple[float, float]]:
        """Yield each end after which there were more final runs, and when the sweep was continued for them.

        A driver that goes on after a look of its own continues it at that look.
        """
        for end in dict.fromkeys(time for time, _ in self.ends):
            following = self.runs[bisect_right(self.runs, end) :]
            if following:
                yield end, next((began for began in self.began if end < began <= following[0]), end)


def timeline_of(state: SweepState, config: Mapping[str, Any]) -> Timeline:
    """Return the timeline of a sweep.

    Args:
        state: of the sweep.
        config: its file.
    """
    looked = [(look.time, look.at_most) for look in state.looks]
    done = [(driver.last, 0) for driver in state.drivers if driver.end == "done"]
    changed = [(time, 0) for time in _changes(state)]
    winners = [runs for search in state.searches.values() for runs in search.verified.values()]
    return Timeline(
        began=tuple(sorted(driver.began for driver in state.drivers)),
        ends=tuple(sorted([*looked, *done, *changed], key=lambda end: end[0])),
        planned=_at_most(config),
        runs=tuple(sorted(run.time for runs in winners for run in runs.values())),
    )


def _changes(state: SweepState) -> Iterator[float]:
    """Yield when the planned final runs were changed: at a request, or at the last event before a changed file."""
    plan: dict[str, float] = {}
    last: float | None = None
    began: list[tuple[float, DriverSession | RequestTaken]] = [(driver.began, driver) for driver in state.drivers]
    asked = [(one.time, one) for one in granted(state, "change")]
    for time, one in sorted([*began, *asked], key=lambda item: item[0]):
        if isinstance(one, DriverSession):
            if last is not None and plan and one.plan and one.plan != plan:
                yield last
            plan, last = dict(one.plan), one.last
        elif planned := {key: value for key, value in flatten(one.values).items() if key in PLANNED}:
            if planned.items() - plan.items():
                yield time
            plan = {key: value for key, value in (plan | planned).items() if isinstance(value, int | float)}


class LookNumbers:
    """The numbers of the looks at final runs of sweeps that ask one question, from 1 on."""

    def __init__(self, timelines: Iterable[Timeline]) -> None:
        known = list(timelines)
        self._looks = _looks(known)
        self._present = sorted({self._before(time) for timeline in known for time in timeline.runs})

    def of(self, time: float) -> int:
        """Return the number of the first look at a final run that ended at this time, among looks with new ones."""
        return 1 + bisect_left(self._present, self._before(time))

    def _before(self, time: float) -> int:
        return bisect_left(self._looks, time)


def _looks(timelines: Sequence[Timeline]) -> list[float]:
    """Return the ends that are looks, ascending."""
    ends = sorted({end for one in timelines for end, _ in one.ends})
    found = set()
    for timeline in timelines:
        for began in timeline.began[:1]:
            found.update(ends[: bisect_right(ends, began)][-1:])
        for end, again in timeline.continued():
            found.add(max([end, *ends[: bisect_left(ends, again)][-1:]]))
    return sorted(found)


def _at_most(config: Mapping[str, Any]) -> int:
    """Return how many replicates a sweep that looks after each may have, 0 for any other."""
    replicates = config.get("replicates")
    most = replicates.get("at_most", 12) if isinstance(replicates, Mapping) else 0
    return most if isinstance(most, int) and 0 < most < 2**31 else 0
