"""Looks at a growing set of results: how much of the error rate each may spend, and the level at which it tests.

Whoever sees a verdict, adds replicates or final runs, and tests again, has several chances of a false alarm. The
spending functions of Lan & DeMets 1983, "Discrete Sequential Boundaries for Clinical Trials", divide the error rate
over the looks; the times of the looks and their number need no plan, as long as they do not follow from what a spending
function may not see, the size of the effect. Usual functions are of the fraction of a largest sample. A sweep that
anyone can extend has none: here the rate that n units may have spent is α (1 − 1/n), which never exceeds α, however
many looks there are. Few units, which can tell little, spend less; a single look at ten spends nine tenths.

A sweep that looks after each replicate, up to a planned number N, spends what a single look at N would have, in equal
parts: n units α (1 − 1/N) n/N. Its looks are many, and the early ones, at which it seldom ends, would else spend most.
"""

from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

import numpy as np
from scipy import optimize, special

POINTS = 96
"""Nodes of the integration over the paths that no earlier look has stopped."""
SAME = 1e-9
FARTHEST = 12.0
"""The edge, in standard errors, of a look that may spend nothing."""


class Look(NamedTuple):
    """The units at a look, and the planned number of them up to which there is a look after each; 0 without a plan."""

    units: float
    most: float = 0.0


def spent(looks: Iterable[Look]) -> list[float]:
    """Return the share of the error rate that all looks up to each one may spend together.

    Where a plan follows other looks, it spends in equal parts what these have left of its own rate.
    """
    shares, before, last = [], 0.0, 0.0
    for units, most in looks:
        share = 1 - 1 / units
        if most > units:
            share = before + (1 - 1 / most - before) * (units - last) / (most - last)
        before, last = max(before, share), units
        shares.append(before)
    return shares


def grown(looks: Iterable[Look]) -> tuple[Look, ...]:
    """Return the looks at which there were more units than before, and at least two."""
    kept = [Look(2.0 - SAME)]
    for units, most in looks:
        if units > kept[-1].units + SAME / 2:
            kept.append(Look(round(float(units), 6), float(most)))
    return tuple(kept[1:])


@cache
def levels(looks: tuple[Look, ...], alpha: float) -> tuple[float, ...]:
    """Return the two-sided level at which each look's own test spends what is left for it of `alpha`.

    The recursion of Armitage, McPherson & Rowe 1969, "Repeated Significance Tests on Accumulating Data": statistics of
    growing data are correlated, by the root of their ratio of units, so that a later look tests at a higher level than
    it spends. It is exact for normal statistics of known variance; Student's t uses the same levels for its p values
    (the significance level approach of Pocock 1977, "Group Sequential Methods"), which a test simulates.

    Args:
        looks: as `grown` returns them.
        alpha: the error rate of all looks together.
    """
    found: list[float] = []
    nodes, weights = np.polynomial.legendre.leggauss(POINTS)
    paths = density = np.array([])
    shares = alpha * np.diff(spent(looks), prepend=0.0)
    for look, (amount, _) in enumerate(looks):
        root, before, share = np.sqrt(amount), looks[look - 1].units if look else 0.0, float(shares[look])
        if look == 0:
            edge = float(special.ndtri(1 - share / 2))
        elif share < SAME:
            edge = FARTHEST
        else:
            arguments = (paths, density, root, np.sqrt(amount - before), share)
            edge = float(optimize.brentq(_excess, 0.0, FARTHEST, args=arguments))
        moved = nodes * edge * root
        if look == 0:
            density = weights * edge * root * _normal(moved / root) / root
        else:
            step = np.sqrt(amount - before)
            density = weights * edge * root * (_normal((moved[:, None] - paths) / step) / step @ density)
        paths = moved
        found.append(float(2 * special.ndtr(-edge)))
    return tuple(found)


def _excess(edge: float, paths: np.ndarray, density: np.ndarray, root: float, step: float, share: float) -> float:
    """Return the probability to cross an edge for the first time at a look, less what the look may spend."""
    beyond = special.ndtr((paths - edge * root) / step) + special.ndtr((-paths - edge * root) / step)
    return float(density @ beyond) - share


def _normal(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi))
