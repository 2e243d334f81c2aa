"""Statistics of paired comparisons, vectorised over all but the last axis."""

from collections.abc import Sequence
from functools import cache
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special

Floats = NDArray[np.float64]

EXACT_UP_TO = 14
"""Number of pairs up to which all sign vectors are enumerated; above it they are sampled."""
SAMPLED = 20_000
TINY = 1e-12
"""Differences up to this are rounding."""


class Interval(NamedTuple):
    """Lower and upper end; equal to the estimate where the data have no spread."""

    low: Floats
    high: Floats


def iqm(values: ArrayLike) -> Floats:
    """Return the interquartile mean: the mean of the middle half, border values weighted by their share.

    Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice".
    """
    x = np.sort(np.asarray(values, dtype=float), axis=-1)
    n = x.shape[-1]
    rank = np.arange(n)
    weight = np.clip(np.minimum(rank + 1, 0.75 * n) - np.maximum(rank, 0.25 * n), 0, None)
    return np.asarray((x * weight).sum(-1) / weight.sum())


def far_from_rest(values: ArrayLike, level: float = 0.01) -> int | None:
    """Return the position of the one of [n] values that does not belong to the others, None for none.

    The two-sided test of Grubbs 1969, "Procedures for Detecting Outlying Observations in Samples", which assumes that
    the others are normal: of samples without an outlier, a share of `level` has one by it. Needs four values.
    """
    x = np.asarray(values, dtype=float)
    n = len(x)
    if n < 4:
        return None
    position = int(np.argmax(np.abs(x - x.mean())))
    rest = np.delete(x, position)
    distance, spread = abs(x[position] - rest.mean()), rest.std(ddof=1) * np.sqrt(n / (n - 1))
    return position if distance > special.stdtrit(n - 2, 1 - level / (2 * n)) * spread else None


def t_interval(values: ArrayLike, level: float = 0.95) -> Interval:
    """Return Student's interval of the mean of [..., n] values; infinite for a single value."""
    x = np.asarray(values, dtype=float)
    n, mean = x.shape[-1], x.mean(-1)
    if n < 2:
        return Interval(np.full_like(mean, -np.inf), np.full_like(mean, np.inf))
    half = special.stdtrit(n - 1, 0.5 + level / 2) * x.std(-1, ddof=1) / np.sqrt(n)
    return Interval(mean - half, mean + half)


class TTest(NamedTuple):
    """Student's t: estimate, interval and two-sided p value from one standard `error` with its degrees of `freedom`.

    Without an error (fewer than two values, or values without any spread) the interval is infinite and p is 1.
    """

    estimate: float
    low: float
    high: float
    p: float
    error: float
    freedom: float

    def at(self, level: float) -> Interval:
        """Return the interval at another level."""
        if not (self.error > 0 and self.freedom > 0):
            return Interval(np.asarray(-np.inf), np.asarray(np.inf))
        half = special.stdtrit(self.freedom, 0.5 + level / 2) * self.error
        return Interval(np.asarray(self.estimate - half), np.asarray(self.estimate + half))


def t_test(
    strata: Sequence[Floats],
    level: float = 0.95,
    least: Sequence[float] = (),
    draws: Sequence[Sequence[str]] | None = None,
) -> TTest:
    """Return Student's t test of the mean of the strata's means; the strata are fixed, their values are sampled.

    One stratum gives the plain test. Values of the same draw in several strata depend on each other: strata with the
    same draws are averaged draw by draw, which again is a sample of independent values. Where strata have only some
    draws in common, their standard errors are added, the most that any dependence makes of them, with the fewest
    degrees of freedom. Parts that have no draw in common are independent: their variances are added, with the degrees
    of freedom of Welch and Satterthwaite (Satterthwaite 1946, "An Approximate Distribution of Estimates of Variance
    Components").

    Args:
        strata: the values of each.
        level: of the interval.
        least: the smallest standard deviation that each stratum is taken to have, for values that are rounded.
        draws: what each value was drawn with, by stratum; None where all values are independent.
    """
    estimate = float(np.mean([values.mean() for values in strata]))
    if min(map(len, strata)) < 2:
        return TTest(estimate, -np.inf, np.inf, 1.0, np.nan, 0.0)
    floors = least if len(least) else [0.0] * len(strata)
    names = [[f"{at} {n}" for n in range(len(values))] for at, values in enumerate(strata)] if draws is None else draws
    samples = [_Sample(*one) for one in zip(strata, floors, names, strict=True)]
    errors, freedoms = np.array([_error(group) for group in _dependent(samples)]).T
    parts = (errors / len(strata)) ** 2
    error = float(np.sqrt(parts.sum()))
    if error <= TINY:
        return TTest(estimate, -np.inf, np.inf, 1.0, 0.0, 0.0)
    freedom = float(parts.sum() ** 2 / (parts**2 / freedoms).sum())
    half = special.stdtrit(freedom, 0.5 + level / 2) * error
    p = 2 * special.stdtr(freedom, -abs(estimate) / error)
    return TTest(estimate, float(estimate - half), float(estimate + half), float(p), error, freedom)


class _Sample(NamedTuple):
    """A stratum: its values, the smallest standard deviation that they are taken to have, and their draws."""

    values: Floats
    least: float
    draws: Sequence[str]


def _dependent(samples: Sequence[_Sample]) -> list[list[_Sample]]:
    """Return the strata in groups that have no draw in common."""
    groups: list[list[_Sample]] = []
    for sample in samples:
        linked, apart = [sample], []
        for group in groups:
            if set(sample.draws).isdisjoint(draw for other in group for draw in other.draws):
                apart.append(group)
            else:
                linked += group
        groups = [*apart, linked]
    return groups


def _error(samples: Sequence[_Sample]) -> tuple[float, float]:
    """Return the standard error of the sum of the means of strata that depend on each other, and its freedom."""
    drawn = sorted(set(samples[0].draws))
    if all(sorted(one.draws) == drawn for one in samples):
        sums = sum(one.values[np.argsort(list(one.draws))] for one in samples)
        sd = max(float(np.std(sums, ddof=1)), float(np.sqrt(sum(one.least**2 for one in samples))))
        return sd / np.sqrt(len(drawn)), len(drawn) - 1.0
    errors = [max(float(one.values.std(ddof=1)), one.least) / np.sqrt(len(one.values)) for one in samples]
    return sum(errors), min(len(one.values) for one in samples) - 1.0


class SignFlip(NamedTuple):
    """A two-sided p value, the smallest possible with this number of pairs, and its sampling error (0: exact)."""

    p: Floats
    floor: float
    error: Floats


def sign_flip(differences: ArrayLike, seed: int = 0) -> SignFlip:
    """Return the permutation test that [..., n] paired differences are symmetric about zero.

    The share of the 2^n sign vectors whose mean is at least as far from zero as the observed one; above
    `EXACT_UP_TO` pairs the signs are sampled, the observed vector included, and `error` is the p value's
    standard error. Fisher 1935.
    """
    x = np.asarray(differences, dtype=float)
    n = x.shape[-1]
    exact = n <= EXACT_UP_TO
    signs = _all_signs(n) if exact else np.random.default_rng(seed).choice([-1.0, 1.0], (SAMPLED, n))
    observed = np.abs(x.sum(-1, keepdims=True))
    slack = 1e-9 * np.abs(x).sum(-1, keepdims=True)
    extreme = (np.abs(x @ signs.T) >= observed - slack).sum(-1)
    if exact:
        return SignFlip(np.asarray(extreme / len(signs)), 2.0 ** (1 - n), np.zeros(x.shape[:-1]))
    p = (extreme + 1) / (SAMPLED + 1)
    return SignFlip(np.asarray(p), max(2.0 ** (1 - n), 1 / (SAMPLED + 1)), np.sqrt(p * (1 - p) / SAMPLED))


@cache
def _all_signs(n: int) -> Floats:
    """Return all vectors of n signs, [2^n, n]; cached, so do not modify it."""
    return np.array(list(product((-1.0, 1.0), repeat=n))).reshape(-1, n)


def prob_improvement(a: ArrayLike, b: ArrayLike) -> Floats:
    """Return P(a run of `a` beats a run of `b`) over all pairs of runs [..., n] × [..., m]; ties count half."""
    x, y = np.asarray(a, dtype=float)[..., :, None], np.asarray(b, dtype=float)[..., None, :]
    return np.asarray((x > y).mean((-2, -1)) + 0.5 * (x == y).mean((-2, -1)))


def prob_interval(a: ArrayLike, b: ArrayLike, level: float = 0.95) -> Interval:
    """Return the interval of `prob_improvement` of [n] and [m] values.

    Method 5 of Newcombe 2006, "Confidence intervals for an effect size measure based on the Mann-Whitney statistic",
    part 2: a score interval with the variance of Hanley and McNeil, which is not empty where all pairs agree.
    """
    estimate, n, m = float(prob_improvement(a, b)), np.size(a), np.size(b)
    rest, quantile = (n + m) / 2 - 1, special.ndtri(0.5 + level / 2)

    def distance(theta: float) -> float:
        spread = theta * (1 - theta) * (1 + rest * ((1 - theta) / (2 - theta) + theta / (1 + theta))) / (n * m)
        return float((estimate - theta) ** 2 - quantile**2 * spread)

    low = optimize.brentq(distance, 0.0, min(estimate, 1 - TINY)) if estimate > 0 else 0.0
    high = optimize.brentq(distance, max(estimate, TINY), 1.0) if estimate < 1 else 1.0
    return Interval(np.asarray(low), np.asarray(high))


def image_error(a: float, b: float, images: float) -> float:
    """Return the largest standard error of the difference of two accuracies that the sampling of test images explains.

    The binomial one of two networks whose errors are independent: errors on the same images make it smaller. NaN where
    the number of `images` is not known.
    """
    return float(np.sqrt((a * (1 - a) + b * (1 - b)) / images)) if images > 0 else np.nan


def holm(p: ArrayLike) -> Floats:
    """Return p values with Holm's step-down adjustment over the last axis (Holm 1979)."""
    raw = np.asarray(p, dtype=float)
    order = np.argsort(raw, axis=-1)
    stepped = np.take_along_axis(raw, order, -1) * np.arange(raw.shape[-1], 0, -1)
    adjusted = np.minimum(np.maximum.accumulate(stepped, axis=-1), 1.0)
    back = np.empty_like(adjusted)
    np.put_along_axis(back, order, adjusted, -1)
    return back
