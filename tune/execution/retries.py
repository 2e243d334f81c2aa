"""What follows a failed attempt: again, elsewhere; given up; or the sweep is stopped, because everything fails.

One `RetryPolicy` serves all work of a driver. Its caller, for trials as for tasks (final runs, teachers, caches):

- names each piece of work by a key that stays the same over its attempts;
- calls `failed` for each failed attempt and does as the decision says: `Retry` sends the work again, after `wait`
  seconds, best to a node that is not in `avoid`; `GiveUp` ends it as failed, with the last failure as its reason;
  `Stop` sends nothing more, and ends the sweep with its text;
- calls `succeeded` whenever a node has brought something: a trial's epoch, a task's result or progress; `ended` when
  the work needs no further attempt;
- sends no work to `breaker.left_out`, and now and then looks at the nodes of `breaker.due`
  (`tune.execution.node_check`, with the known-answer launch on GPUs), for `breaker.readmit` or `breaker.still`.
"""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from tune.execution.breaker import NodeBreaker
from tune.execution.failures import KIND_TEXTS, Failure

WITHOUT_PROGRESS = 4
"""Failures of the system in a row without anything new, on nodes where other work succeeds, after which they are taken
for the work's own: memory that no node has, a file that nobody has."""
SET_BACK = 2
"""Failures of the system in a row without anything new after which other work is tried first."""
WAIT, MOST_WAITS = 90.0, 2
"""Seconds until such work is tried again, once after its second failure and twice after each later one: what is given
up has failed over more than four minutes, and storage that is away for a minute or two ends no trial."""
LOST_WITHOUT_PROGRESS = 12
"""Lost nodes in a row without anything new, as spot machines are, after which that is taken for the work's own; where
no other work succeeded meanwhile, the sweep is stopped: machines that are replaced for ever cost money."""
DIFFERENT = 3
"""Different pieces of work that have failed, without a success between, before a sweep is stopped."""
_HOLDERS = "~holders"
"""Stands for all lost holders among what has failed."""
AT_MOST = 6
"""Failures without a success between after which fewer are enough, as there are no others to try: where other work
succeeded before, this is given up, else the sweep is stopped."""


@dataclass(frozen=True)
class Retry:
    """The work is to be sent again, best to none of the nodes `avoid`; where it is `set_back`, after other work.

    `wait`: not before so many seconds.
    """

    avoid: frozenset[str]
    set_back: bool = False
    wait: float = 0.0


@dataclass(frozen=True)
class GiveUp:
    """The work has failed for good: `failure` is the reason."""

    failure: Failure


@dataclass(frozen=True)
class Stop:
    """Everything fails: the sweep ends with this line."""

    text: str


Decision = Retry | GiveUp | Stop


@dataclass(frozen=True)
class Attempt:
    """A failed attempt: its number from 1, its node (None where that is not known), and the failure."""

    number: int
    node: str | None
    failure: Failure


@dataclass
class _Work:
    attempts: int = 0
    own: int = 0
    stuck: int = 0
    lost: int = 0
    successes: int = 0
    failed_on: set[str] = field(default_factory=set)
    places: set[tuple[str | None, str | None]] = field(default_factory=set)
    avoid: set[str] = field(default_factory=set)
    last: Attempt | None = None


class RetryPolicy:
    """Decides by the kind of a failure and by what succeeds elsewhere.

    The work's own errors are retried `max_failures` times, anywhere, as waiting for another node costs a slot; the last
    time elsewhere, should a machine have failed in an unknown way. Failures of the system are retried without a limit
    while the work gets on; `WITHOUT_PROGRESS` and `LOST_WITHOUT_PROGRESS` end work that does not while other work does.
    The attempts before are spread over some minutes, unless nothing has succeeded so far.
    A holder that was lost counts once, whatever the number of its trials, and for these as a lost node. Work that has
    failed of GPUs alone on which nothing else succeeds is not given up: they may be the fault.

    Attributes:
        max_failures: how often an error of its own is tried again; may be set at any time.
        breaker: which nodes are left out.
    """

    def __init__(
        self,
        max_failures: int,
        left_out: Callable[[str, str], None] = lambda _node, _reason: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin without failures.

        Args:
            max_failures: see above.
            left_out: is called with a node, and the reason, when the breaker leaves it out.
            clock: returns seconds.
        """
        self.max_failures = max_failures
        self._note_left_out = left_out
        self.breaker = NodeBreaker(clock)
        self._work: dict[str, _Work] = {}
        self._successes = 0
        self._failed_since: dict[str, int] = {}
        self._holders: set[str] = set()
        self._worked: dict[tuple[str | None, str], int] = {}

    def failed(self, key: str, failure: Failure, node: str | None = None, usable: Collection[str] = ()) -> Decision:
        """Take a failed attempt and return what is to be done.

        Args:
            key: the work.
            failure: what has happened.
            node: where; None where there are no nodes, or it is not known.
            usable: the living nodes that could hold the work, those left out included.
        """
        work = self._work.setdefault(key, _Work(successes=self._successes))
        work.attempts += 1
        work.last = Attempt(work.attempts, node, failure)
        if node is not None:
            work.failed_on.add(node)
        if failure.kind == "own":
            work.own += 1
            if work.own >= self.max_failures:
                work.avoid |= work.failed_on
            return self._again(work, usable) if work.own <= self.max_failures else self._give_up(key, failure)
        work.avoid |= work.failed_on
        if failure.kind in ("node", "holder"):
            work.lost += 1
        else:
            work.stuck += 1
            work.places.add((node, failure.part))
        new = self._count(key, failure, node, usable)
        by_gpus = failure.kind == "gpu" and self._by_gpus_alone(work)
        if new and self._everything_fails(usable):
            alone = len(self._failed_since) < DIFFERENT and _HOLDERS not in self._failed_since and self._successes
            if not alone or by_gpus:
                return Stop(self._complaint("everything fails", failure))
            if work.stuck >= WITHOUT_PROGRESS:
                return self._give_up(key, failure)
        if by_gpus:
            many = sum(self._failed_since.values()) >= LOST_WITHOUT_PROGRESS
            if many and self._failed_since[key] >= WITHOUT_PROGRESS:
                return Stop(self._complaint("no other GPU takes the work", failure))
            return self._again(work, usable)
        others_succeed = self._successes > work.successes
        if others_succeed and (work.stuck >= WITHOUT_PROGRESS or work.lost >= LOST_WITHOUT_PROGRESS):
            return self._give_up(key, failure)
        if work.lost >= LOST_WITHOUT_PROGRESS:
            return Stop(self._complaint("every node is lost", failure, work.lost))
        waits = self._successes and failure.kind not in ("node", "holder")
        return self._again(work, usable, WAIT * min(work.stuck - 1, MOST_WAITS) if waits else 0.0)

    def _count(self, key: str, failure: Failure, node: str | None, usable: Collection[str]) -> bool:
        """Count a failure of the system among all, and for its node; return False where it is counted already.

        A lost node counts for none; a lost holder once, not once for each of its trials.
        """
        if failure.kind == "node":
            return False
        counted, part = key, failure.part
        if failure.kind == "holder":
            counted, part = part or key, None
            if counted in self._holders:
                return False
            self._holders.add(counted)
        among = _HOLDERS if failure.kind == "holder" else key
        self._failed_since[among] = self._failed_since.get(among, 0) + 1
        if node is not None and self.breaker.failed(node, counted, failure.text, usable, part):
            self._note_left_out(node, failure.text)
        return True

    def _by_gpus_alone(self, work: _Work) -> bool:
        """Return whether work has failed on known GPUs alone, on which nothing has succeeded meanwhile."""
        return all(gpu is not None and self._worked.get((node, gpu), 0) <= work.successes for node, gpu in work.places)

    def succeeded(self, key: str, node: str | None = None, gpus: str | None = None) -> None:
        """Take a sign that work gets on: an epoch, a result, progress; on a node, and on which of its GPUs, if any."""
        self._successes += 1
        self._failed_since.clear()
        if (work := self._work.get(key)) is not None:
            work.stuck = work.lost = 0
            work.places.clear()
            work.successes = self._successes
        if node is not None:
            self.breaker.succeeded(node, gpus)
            if gpus is not None:
                self._worked[node, gpus] = self._successes

    def leave_out(self, node: str, reason: str, usable: Collection[str]) -> bool:
        """Leave out a node for another reason than failures, but not the last usable one; return whether it is now."""
        left = self.breaker.leave_out(node, reason, usable)
        if left:
            self._note_left_out(node, reason)
        return left

    def ended(self, key: str) -> None:
        """Forget work that needs no further attempt."""
        self._work.pop(key, None)

    def attempts(self, key: str) -> int:
        """Return how many attempts of work that has not ended have failed."""
        work = self._work.get(key)
        return work.attempts if work is not None else 0

    def last(self, key: str) -> Attempt | None:
        """Return the last failed attempt of work that has not ended, None where there is none."""
        work = self._work.get(key)
        return work.last if work is not None else None

    def avoided(self, key: str) -> frozenset[str]:
        """Return the nodes that work is not to be sent to: those on which it has failed."""
        work = self._work.get(key)
        return frozenset(work.avoid) if work is not None else frozenset()

    def _again(self, work: _Work, usable: Collection[str], wait: float = 0.0) -> Retry:
        """Retry elsewhere; where the work has failed everywhere, anywhere."""
        if usable and all(node in work.avoid or node in self.breaker.left_out for node in usable):
            work.avoid.clear()
            work.failed_on.clear()
        return Retry(frozenset(work.avoid), work.stuck >= SET_BACK, wait)

    def _give_up(self, key: str, failure: Failure) -> GiveUp:
        self.ended(key)
        self._failed_since.pop(key, None)
        return GiveUp(failure)

    def _everything_fails(self, usable: Collection[str]) -> bool:
        different = len(self._failed_since) >= DIFFERENT or sum(self._failed_since.values()) >= AT_MOST
        return different and self.breaker.all_failed(usable)

    def _complaint(self, what: str, failure: Failure, times: int | None = None) -> str:
        """Return why the sweep is stopped; `times` failures in a row, by default all that count."""
        times = times or sum(self._failed_since.values())
        return (
            f"{what}: {times} attempts in a row without a success; the last: {KIND_TEXTS[failure.kind]}: "
            f"{failure.text}; mend it and rerun the same command: nothing is lost"
        )
