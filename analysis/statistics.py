"""Statistics of paired comparisons, vectorised over all but the last axis."""

from functools import cache
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Floats = NDArray[np.float64]

EXACT_UP_TO = 14
"""Number of pairs up to which all sign vectors are enumerated; above it they are sampled."""
SAMPLED = 20_000


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
    return position if distance > stats.t.ppf(1 - level / (2 * n), n - 2) * spread else None


def t_interval(values: ArrayLike, level: float = 0.95) -> Interval:
    """Return Student's interval of the mean of [..., n] values; infinite for a single value."""
    x = np.asarray(values, dtype=float)
    n, mean = x.shape[-1], x.mean(-1)
    if n < 2:
        return Interval(np.full_like(mean, -np.inf), np.full_like(mean, np.inf))
    half = stats.t.ppf(0.5 + level / 2, n - 1) * x.std(-1, ddof=1) / np.sqrt(n)
    return Interval(mean - half, mean + half)


def blocked_interval(blocks: list[Floats], level: float = 0.95) -> Interval:
    """Return Student's interval of the mean of the blocks' means, the blocks being fixed, not sampled.

    Each block keeps its own variance; degrees of freedom by Welch and Satterthwaite. One block gives `t_interval`.
    """
    if len(blocks) == 1:
        return t_interval(blocks[0], level)
    mean = np.mean([block.mean() for block in blocks])
    if min(len(block) for block in blocks) < 2:
        return Interval(np.asarray(-np.inf), np.asarray(np.inf))
    parts = np.array([block.var(ddof=1) / len(block) for block in blocks]) / len(blocks) ** 2
    if not parts.sum():
        return Interval(np.asarray(mean), np.asarray(mean))
    freedom = parts.sum() ** 2 / sum(p**2 / (len(block) - 1) for p, block in zip(parts, blocks, strict=True))
    half = stats.t.ppf(0.5 + level / 2, freedom) * np.sqrt(parts.sum())
    return Interval(np.asarray(mean - half), np.asarray(mean + half))


class SignFlip(NamedTuple):
    """A two-sided p value, the smallest possible with this number of pairs, and its sampling error (0: exact)."""

    p: Floats
    floor: float
    error: Floats


def sign_flip(differences: ArrayLike, weights: ArrayLike | None = None, seed: int = 0) -> SignFlip:
    """Return the permutation test that [..., n] paired differences are symmetric about zero.

    The share of the 2^n sign vectors whose weighted mean is at least as far from zero as the observed one; above
    `EXACT_UP_TO` pairs the signs are sampled, the observed vector included, and `error` is the p value's
    standard error. Fisher 1935.
    """
    x = np.asarray(differences, dtype=float)
    if weights is not None:
        x = x * np.asarray(weights, dtype=float)
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


def holm(p: ArrayLike) -> Floats:
    """Return p values with Holm's step-down adjustment over the last axis (Holm 1979)."""
    raw = np.asarray(p, dtype=float)
    order = np.argsort(raw, axis=-1)
    stepped = np.take_along_axis(raw, order, -1) * np.arange(raw.shape[-1], 0, -1)
    adjusted = np.minimum(np.maximum.accumulate(stepped, axis=-1), 1.0)
    back = np.empty_like(adjusted)
    np.put_along_axis(back, order, adjusted, -1)
    return back
