"""Two networks on the same images: whether one is at most a margin less accurate than the other.

The unit is the image, so the answer is about these two networks, not about trainings like theirs.
"""

import math
from typing import Literal, NamedTuple

from scipy import optimize, special

MARGIN = 0.005
"""Half a point."""
LEVEL = 0.95

Verdict = Literal["within", "worse", "undecided"]


class NotWorse(NamedTuple):
    """What paired images say.

    Attributes:
        difference: accuracy of the second network less that of the first, a fraction.
        low: its one-sided 95 % lower bound.
        p: of the one-sided test against a loss of the margin or more.
        verdict: ``within`` the margin, ``worse`` by more than the margin (both at 5 %), else ``undecided``.
        least: the images from which the margin can be established at all, which is where no class changes.
    """

    difference: float
    low: float
    p: float
    verdict: Verdict
    least: int


def score(images: int, gained: int, lost: int, difference: float) -> float:
    """Return the score statistic of a paired difference of two shares, standard normal if `difference` is the true one.

    Tango 1998, "Equivalence test and confidence interval for the difference in proportions for the paired-sample
    design", equation 4. Unlike the normal approximation it has a variance where no class changes.

    Args:
        images: their number.
        gained: images of which only the second network is right.
        lost: images of which only the first is.
        difference: the second's accuracy less the first's, between -1 and 1.
    """
    n, b, c, loss = images, lost, gained, -difference
    linear = (b + c) * (1 - loss) + 2 * (b - n) * loss
    of_gained = (linear + math.sqrt(max(0.0, linear**2 + 8 * n * c * loss * (1 - loss)))) / (4 * n)
    variance = n * (2 * of_gained + loss * (1 - loss))
    distance = c - b + n * loss
    return distance / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, distance) if distance else 0.0


def not_worse(images: int, gained: int, lost: int, margin: float = MARGIN) -> NotWorse:
    """Return whether the second network loses less than a margin.

    Args:
        images: their number.
        gained: images of which only the second network is right.
        lost: images of which only the first is.
        margin: the loss that does not matter, a fraction.
    """
    quantile = float(special.ndtri(LEVEL))
    difference = (gained - lost) / images
    low = _bound(images, gained, lost, quantile)
    high = -_bound(images, lost, gained, quantile)
    p = float(special.ndtr(-score(images, gained, lost, -margin)))
    verdict: Verdict = "within" if p < 1 - LEVEL else "worse" if high < -margin else "undecided"
    return NotWorse(difference, low, p, verdict, math.floor(quantile**2 * (1 - margin) / margin) + 1)


def _bound(images: int, gained: int, lost: int, quantile: float) -> float:
    """Return the difference below the estimate whose score is the quantile."""
    estimate, edge = (gained - lost) / images, 1e-12

    def excess(difference: float) -> float:
        return score(images, gained, lost, difference) - quantile

    if excess(-1 + edge) < 0 or estimate <= -1:
        return -1.0
    return float(optimize.brentq(excess, -1 + edge, estimate - edge))
