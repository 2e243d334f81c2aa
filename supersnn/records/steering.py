"""What people asked a running sweep for, as its state has it: paused searches, given trials, changed values."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from supersnn.errors import UserError
from supersnn.records.events import RequestKind, RequestTaken
from supersnn.records.state import SweepState
from supersnn.records.trial_state import TrialRecord

PLANNED = (
    "replicates", "search.trials", "search.hours", "search.gpu_hours", "search.stagnation", "verify.seeds",
    "verify.top",
)  # fmt: skip
"""Keys of the sweep file that decide how many final runs there are, and of which trials."""


@dataclass(frozen=True)
class Override:
    """A change of a value of the sweep file: the key, what the file had, what holds instead.

    `earlier` are the values of the changes of the key before this one, which the file may have by now.
    """

    key: str
    before: Any
    value: Any
    earlier: tuple[Any, ...] = ()

    def holds_over(self, given: Any) -> bool:
        """Return whether the file's value is one that was changed, and not a newer one."""
        return given == self.before or given in self.earlier


def granted(state: SweepState, *kinds: RequestKind) -> Iterator[RequestTaken]:
    """Yield the requests of some kinds that were not refused, in the order in which they were taken up."""
    return (one for one in state.requests.values() if one.kind in kinds and one.refused is None)


def paused(state: SweepState) -> set[str]:
    """Return the searches of which no trial may run."""
    found: set[str] = set()
    for request in granted(state, "pause", "resume"):
        if request.kind == "pause":
            found |= set(request.searches)
        else:
            found -= set(request.searches)
    return found


def given(state: SweepState, search: str) -> list[RequestTaken]:
    """Return the requests for a trial of a search, by `enqueue` or `retry`, whose trial has not started yet."""
    asked = [one for one in granted(state, "enqueue", "retry") if search in one.searches]
    started = {trial.request for trial in state.search(search).trials.values()} if asked else set()
    return [request for request in asked if request.id not in started]


def retried(state: SweepState, search: str) -> set[int]:
    """Return the failed trials of a search that are run again: they do not count as spent."""
    return {one.trial for one in granted(state, "retry") if search in one.searches and one.trial is not None}


def require_retriable(state: SweepState, search: str, trial: int) -> TrialRecord:
    """Return a failed trial of a search that may be run again.

    Raises:
        UserError: there is no such one, it has not failed, or it is run again already.
    """
    key, found = f"{search}/{trial}", state.trial(search, trial)
    if found is None:
        raise UserError(f"{key}: there is no such trial")
    if found.state != "failed":
        raise UserError(f"{key}: only a failed trial can be run again; this one has {found.state or 'not ended'}")
    if trial in retried(state, search):
        raise UserError(f"{key}: it is run again already")
    return found


def begun(state: SweepState) -> set[str]:
    """Return the arms that have trials."""
    return {search.arm for search in state.searches.values() if search.trials}


def favoured(state: SweepState) -> dict[str, int]:
    """Return for each search to which a person gave values of trials how many trials these are.

    A trial that is run again has the values that the sampler gave it.
    """
    counts: dict[str, int] = {}
    for request in granted(state, "enqueue"):
        for search in request.searches:
            counts[search] = counts.get(search, 0) + 1
    return counts


def overrides(state: SweepState) -> list[Override]:
    """Return the changed values of the sweep file, the last change of each key with what the file had before.

    That is what it had at the first change, unless the file was edited since.
    """
    found: dict[str, Override] = {}
    for number, request in enumerate(state.requests.values()):
        if request.kind != "change" or request.refused is not None:
            continue
        for key, value in request.values.items():
            if number < state.outdated.get(key, 0):
                continue
            before, known, earlier = request.before.get(key), found.pop(key, None), ()
            if known is not None and (before == known.value or known.holds_over(before)):
                before, earlier = known.before, (*known.earlier, known.value)
            found[key] = Override(key, before, value, earlier)
    return list(found.values())
