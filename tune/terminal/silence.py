"""Trials that have reported nothing for longer than their epochs take, and those that have not reported at all."""

from collections.abc import Iterator

from supersnn.records.searches import trial_key
from supersnn.records.state import SweepState

LEAST = 120.0
"""Seconds of silence that are never told: a process starts, a checkpoint is uploaded."""
EPOCHS = 5.0
"""Times the slowest epoch of the search after which a trial is late."""
BEFORE = 600.0
"""Seconds before the first epoch of a search, whose length is not known, after which a trial is late."""


def silent(state: SweepState, now: float) -> list[tuple[str, float]]:
    """Return the trials under way that are late, with the seconds since they reported last; the longest first.

    They have reported since they were sent to a worker last.
    """
    return _longest_first(_late(state, now, reports=True))


def unreported(state: SweepState, now: float) -> list[tuple[str, float]]:
    """Return the late ones that have not, with the seconds since then: they wait for a node, or load what they need."""
    return _longest_first(_late(state, now, reports=False))


def _late(state: SweepState, now: float, reports: bool) -> Iterator[tuple[str, float]]:
    for name, search in state.searches.items():
        limit = max(LEAST, BEFORE if search.slowest is None else EPOCHS * search.slowest)
        for number in list(search.running):
            trial = search.trials[number]
            if trial.heard is not None and trial.reports == reports and now - trial.heard > limit:
                yield trial_key(name, number), now - trial.heard


def _longest_first(late: Iterator[tuple[str, float]]) -> list[tuple[str, float]]:
    return sorted(late, key=lambda one: -one[1])
