"""Whether a sweep whose replicates are added one by one has enough of them: it looks after each one."""

import math

from supersnn.records.events import PrecisionLooked
from supersnn.records.state import SweepState
from tune.description.replication import most_replicates, replicates_now, until
from tune.description.sweep import SweepConfig
from tune.store import SweepFolder

POINT = 0.01
"""A point of accuracy as a fraction."""


def is_wide(sweep: SweepConfig, half_width: float | None) -> bool:
    """Return whether half the width of an interval is more than the sweep asks for; None is no finite interval."""
    wanted = until(sweep)
    return wanted is not None and (half_width is None or half_width > wanted.until * POINT)


def look_due(sweep: SweepConfig, state: SweepState, exhausted: bool) -> bool:
    """Return whether a sweep that has all its final runs must look.

    It must if it has more replicates or final runs than at the last look, or may add a replicate after all, because its
    file asks for more than it did then. See `look` for the arguments.
    """
    if until(sweep) is None:
        return False
    if not state.looks:
        return True
    last, now = state.looks[-1], replicates_now(sweep, state)
    newest = max((run.time for one in state.searches.values() for run in one.final_runs()), default=0.0)
    may_add = is_wide(sweep, last.half_width) and now < most_replicates(sweep) and not exhausted
    return last.replicates < now or newest > last.time or may_add


def look(sweep: SweepConfig, folder: SweepFolder, state: SweepState, exhausted: bool) -> PrecisionLooked:
    """Return the look at a sweep whose replicates all have their final runs.

    Args:
        sweep: the sweep; its folder's `config.yaml` is the same.
        folder: its folder.
        state: what its journal adds up to.
        exhausted: whether its budget of hours is spent, so that none may be added.

    Raises:
        ValueError: the number of its replicates is given.
    """
    from analysis import load, precision

    wanted = until(sweep)
    if wanted is None:
        raise ValueError("the number of replicates is given")
    now = replicates_now(sweep, state)
    found = precision.widest(load.sweep(folder.path))
    half = found.half if found is not None and math.isfinite(found.half) else None
    more = found is not None and is_wide(sweep, half) and now < wanted.at_most and not exhausted
    return PrecisionLooked(
        replicates=now,
        at_most=wanted.at_most,
        until=wanted.until * POINT,
        half_width=half,
        dataset=found.dataset if found is not None and state.datasets else None,
        a=found.a if found is not None else None,
        b=found.b if found is not None else None,
        next=now + more,
    )
