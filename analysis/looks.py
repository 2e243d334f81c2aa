"""Looks at a growing set of results: how much of the error rate each may spend, and the level at which it tests.

Whoever sees a verdict, adds replicates or final runs, and tests again, has several chances of a false alarm. The
spending functions of Lan & DeMets 1983, "Discrete Sequential Boundaries for Clinical Trials", divide the error rate
over the looks; the times of the looks and their number need no plan, as long as they do not follow from what a spending
function may not see, the size of the effect. Usual functions are of the fraction of a largest sample. A sweep that
anyone can extend has none: here the rate that n units may have spent is α (1 − 1/n), which never exceeds α, however
many looks there are. Few units, which can tell little, spend less; a single look at ten spends nine tenths.
"""

from collections.abc import Iterable
from functools import cache

import numpy as np
from scipy import optimize, special

POINTS = 96
"""Nodes of the integration over the paths that no earlier look has stopped."""
SAME = 1e-9


def spent(units: float) -> float:
    """Return the share of the error rate that all looks up to one at so many units may spend together."""
    return 1 - 1 / units


def grown(units: Iterable[float]) -> tuple[float, ...]:
    """Return the numbers of units, at least two, of the looks at which there were more than before."""
    looks = [2.0 - SAME]
    for amount in units:
        if amount > looks[-1] + SAME / 2:
            looks.append(round(float(amount), 6))
    return tuple(looks[1:])


@cache
def levels(units: tuple[float, ...], alpha: float) -> tuple[float, ...]:
    """Return the two-sided level at which each look's own test spends what is left for it of `alpha`.

    The recursion of Armitage, McPherson & Rowe 1969, "Repeated Significance Tests on Accumulating Data": statistics of
    growing data are correlated, by the root of their ratio of units, so that a later look tests at a higher level than
    it spends. It is exact for normal statistics of known variance; Student's t uses the same levels for its p values
    (the significance level approach of Pocock 1977, "Group Sequential Methods"), which a test simulates.

    Args:
        units: at each look, as `grown` returns them.
        alpha: the error rate of all looks together.
    """
    found: list[float] = []
    nodes, weights = np.polynomial.legendre.leggauss(POINTS)
    paths = density = np.array([])
    for look, amount in enumerate(units):
        root, before = np.sqrt(amount), units[look - 1] if look else 0.0
        share = alpha * (spent(amount) - (spent(before) if look else 0.0))
        if look == 0:
            edge = float(special.ndtri(1 - share / 2))
        else:
            arguments = (paths, density, root, np.sqrt(amount - before), share)
            edge = float(optimize.brentq(_excess, 0.0, 12.0, args=arguments))
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
