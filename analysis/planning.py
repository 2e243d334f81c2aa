"""Planning: how many searches and fresh seeds find a difference with the wanted power, at the least cost.

The test is that of `analysis.compare`: Student's t over K differences of searches, whose variance is the searches' and
the nth part of the seeds'.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from scipy import optimize, special, stats

from analysis.compare import ALPHA
from analysis.looks import Look, levels

POWER = 0.8
MOST_SEARCHES, MOST_SEEDS = 2000, 50
"""What the planner proposes at most."""


class Variances(NamedTuple):
    """Of a final run: between searches of an arm, and between fresh seeds of a winner (squared fractions)."""

    search: float
    seed: float

    def of_difference(self, seeds: int) -> float:
        """Return the variance of the difference of two searches with so many fresh seeds of each winner."""
        return 2 * (self.search + self.seed / seeds)


class Allocation(NamedTuple):
    """Searches of each arm, fresh seeds of each winner, the power that they have, and their cost."""

    searches: int
    seeds: int
    power: float
    cost: float


def power(difference: float, variance: float, searches: int, comparisons: int = 1, alpha: float = ALPHA) -> float:
    """Return the probability that a true difference is found: exact, by the noncentral t distribution.

    At the level of Holm's first step, so that with other true differences the power is a little higher; the rate that a
    first look spends is that of `analysis.looks`.

    Args:
        difference: the true one, a fraction.
        variance: of the difference of two searches.
        searches: K, of each arm; at least 2.
        comparisons: on the same data set.
        alpha: the error rate of all comparisons together.
    """
    edge = special.stdtrit(searches - 1, 1 - levels((Look(float(searches)),), alpha / comparisons)[0] / 2)
    if variance <= 0:
        return 1.0 if difference else 0.0
    shift = abs(difference) / np.sqrt(variance / searches)
    found = stats.nct.sf(edge, searches - 1, shift)
    return float(found) if np.isfinite(found) else float(special.ndtr(shift - edge))


def searches_for(
    difference: float, variance: float, comparisons: int = 1, wanted: float = POWER, alpha: float = ALPHA
) -> int | None:
    """Return the fewest searches of each arm with the wanted power, None where `MOST_SEARCHES` are too few."""
    low, high = 1, 2
    while power(difference, variance, high, comparisons, alpha) < wanted:
        low, high = high, 2 * high
        if low >= MOST_SEARCHES:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        if power(difference, variance, middle, comparisons, alpha) < wanted:
            low = middle
        else:
            high = middle
    return high


def cheapest(
    difference: float,
    variances: Variances,
    search_cost: float,
    seed_cost: float,
    comparisons: int = 1,
    wanted: float = POWER,
) -> Allocation | None:
    """Return the searches and seeds that find a difference at the least cost, None where too few are allowed.

    Args:
        difference: the true one, a fraction.
        variances: of a final run.
        search_cost: of one search of an arm, in any unit.
        seed_cost: of one fresh seed of a winner, in that unit.
        comparisons: on the same data set.
        wanted: power.
    """
    best: Allocation | None = None
    for seeds in range(1, MOST_SEEDS + 1):
        if best is not None and 2 * (search_cost + seeds * seed_cost) > best.cost:
            break
        variance = variances.of_difference(seeds)
        searches = searches_for(difference, variance, comparisons, wanted)
        if searches is None:
            continue
        cost = searches * (search_cost + seeds * seed_cost)
        if best is None or cost < best.cost:
            best = Allocation(searches, seeds, power(difference, variance, searches, comparisons), cost)
    return best


def detectable(variance: float, searches: int, comparisons: int = 1, wanted: float = POWER) -> float:
    """Return the difference that so many searches find with the wanted power."""
    if variance <= 0:
        return 0.0
    unit = float(np.sqrt(variance))

    def lacking(difference: float) -> float:
        return power(difference * unit, variance, searches, comparisons) - wanted

    return unit * float(optimize.brentq(lacking, 0.0, 1e4))


def half_width(variance: float, searches: int, most: int, least: int = 3) -> float:
    """Return half the width of a 95 % interval that is looked at after each search from `least` on, up to `most`.

    Args:
        variance: of the difference of two searches, as if it were known.
        searches: K, of each arm; at least `least`.
        most: the planned number of searches.
        least: at the first look.
    """
    looks = tuple(Look(float(units), float(most)) for units in range(least, searches + 1))
    edge = special.stdtrit(searches - 1, 1 - levels(looks, ALPHA)[-1] / 2)
    return float(edge * np.sqrt(variance / searches))


def upper(variance: float, freedom: float, level: float = 0.8) -> float:
    """Return the upper confidence limit of a variance that was estimated with so many degrees of freedom.

    Browne 1995, "On the use of a pilot sample for sample size determination": planning with it instead of the estimate
    reaches the wanted power with the probability `level`.
    """
    return float(variance * freedom / stats.chi2.ppf(1 - level, freedom)) if freedom > 0 else np.inf


def combined(variances: Iterable[Variances]) -> Variances:
    """Return the largest variance of each kind, for a plan that is enough on every data set."""
    every = list(variances)
    return Variances(max(found.search for found in every), max(found.seed for found in every))
