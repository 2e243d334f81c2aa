"""How well a sweep knows the differences between its arms: half the width of the widest interval.

A sweep with `replicates: {until: 1.0}` adds replicates until that is small enough. Each time that it looks is a look
(`analysis.looks`), so that the intervals cover the true differences at whichever look it ends.
"""

import math
from typing import NamedTuple

from analysis.arms import comparisons
from analysis.compare import verdicts
from analysis.tables import Sweep, records


class Width(NamedTuple):
    """Half the width of the 95 % interval of a − b on a data set, a fraction; infinite where there is no interval."""

    half: float
    dataset: str
    a: str
    b: str


def widest(sweep: Sweep) -> Width | None:
    """Return the widest interval of the planned comparisons on each data set, the first of equal ones.

    A comparison without several searches of both arms has no interval. None where no comparison is planned.
    """
    table = verdicts(sweep.verified)
    known = {(row["dataset"], row["a"], row["b"]): row for row in records(table) if row["unit"] == "search"}
    found = []
    for dataset in sweep.datasets:
        for a, b in comparisons(sweep.arms):
            row = known.get((dataset, a, b))
            half = math.inf if row is None else (row["high"] - row["low"]) / 2
            found.append(Width(half if math.isfinite(half) else math.inf, dataset, a, b))
    return max(found, key=lambda width: width.half, default=None)
