"""Trials that have reported nothing for longer than their epochs take."""

from collections.abc import Mapping

from supersnn.records.metrics import EPOCH_SECONDS
from supersnn.records.search_state import SearchRecord
from supersnn.records.searches import trial_key
from supersnn.records.state import SweepState

LEAST = 120.0
"""Seconds of silence that are never told: a process starts, a checkpoint is uploaded."""
EPOCHS = 5.0
"""Times the slowest epoch of the search after which a trial is late."""
BEFORE = 600.0
"""Seconds before the first epoch of a search, whose length is not known, after which a trial is late."""


def silent(state: SweepState, now: float) -> list[tuple[str, float]]:
    """Return the trials under way that are late, with the seconds since they reported last; the longest first."""
    late = []
    for name, search in state.searches.items():
        limit = max(LEAST, _slowest(search))
        for number in list(search.running):
            heard = search.trials[number].heard
            if heard is not None and now - heard > limit:
                late.append((trial_key(name, number), now - heard))
    return sorted(late, key=lambda one: -one[1])


def _slowest(search: SearchRecord) -> float:
    last: list[Mapping[str, float | None]] = [trial.metrics for trial in search.trials.values()]
    seconds = [value for metrics in last if (value := metrics.get(EPOCH_SECONDS.key)) is not None]
    return EPOCHS * max(seconds) if seconds else BEFORE
