"""Components of variance of verified results: what fresh seeds, searches and replicates contribute.

A winner's score differs between fresh seeds (`seed`), between searches of the same arm (`search`), and by what all arms
of a replicate share, such as its split and its teachers where the sweep varies them (`replicate`). The last cancels in
a comparison of arms within a replicate.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from analysis.statistics import Floats
from analysis.units import Searches, arms_of, groups

COLUMNS = ["question", "dataset", "component", "sd", "share", "low", "high", "freedom"]


class Components(NamedTuple):
    """Variances of a single final run on one data set, with their degrees of freedom; NaN where they are not known.

    Attributes:
        seed: between fresh seeds of a winner.
        search: between winners of the same arm, beyond what all arms of a replicate share.
        replicate: of what all arms of a replicate share.
        square: the mean square of winners' means: `search` plus the seeds' part of it.
        seeds: the harmonic mean of the final runs of a winner.
        freedom: of `square`. `seed_freedom`: of `seed`.
        searches: the number of replicates.
    """

    seed: float
    search: float
    replicate: float
    square: float
    seeds: float
    freedom: int
    seed_freedom: int
    searches: int


def components_of(searches: Searches) -> Components:
    """Return the components of one group by analysis of variance: mean squares equal to their expectations.

    Two-way layout of arms and replicates with several final runs in each winner (Searle, Casella & McCulloch 1992,
    "Variance Components", chapter 4). Only replicates that have all arms count; negative estimates are set to zero.
    """
    arms = list(arms_of({("", ""): searches}))
    complete = [runs for runs in searches.values() if len(runs) == len(arms)]
    winners = [runs for arms_runs in searches.values() for runs in arms_runs.values()]
    squares = [float(np.var(list(runs.scores.values()), ddof=1)) * (len(runs.scores) - 1)
               for runs in winners if len(runs.scores) > 1]  # fmt: skip
    seed_freedom = sum(len(runs.scores) - 1 for runs in winners)
    seed = sum(squares) / seed_freedom if seed_freedom else np.nan
    counts = [len(runs[arm].scores) for runs in complete for arm in arms]
    seeds = len(counts) / sum(1 / count for count in counts) if counts else np.nan
    k, a = len(complete), len(arms)
    if k < 2:
        return Components(seed, np.nan, np.nan, np.nan, seeds, 0, seed_freedom, k)
    means = np.array([[runs[arm].mean for arm in arms] for runs in complete])
    if a == 1:
        square = float(means.var(ddof=1))
        return Components(seed, _positive(square - seed / seeds), np.nan, square, seeds, k - 1, seed_freedom, k)
    residual = means - means.mean(0) - means.mean(1, keepdims=True) + means.mean()
    freedom = (k - 1) * (a - 1)
    square = float((residual**2).sum() / freedom)
    shared = float(a * means.mean(1).var(ddof=1))
    return Components(seed, _positive(square - seed / seeds), _positive((shared - square) / a), square, seeds, freedom,
                      seed_freedom, k)  # fmt: skip


def components(verified: pd.DataFrame, score: str = "test", level: float = 0.95) -> pd.DataFrame:
    """Return a row for each component of each data set, without those that are not known.

    Columns: `question`, `dataset`, `component` ("replicate", "search", "seed"), `sd` (of a single final run, a
    fraction), `share` of the total variance, `freedom`, and the interval `low` to `high` of the sd at the given level,
    exact for "seed", by Satterthwaite for "search" where it has a degree of freedom, and missing for "replicate".
    """
    rows = []
    for (question, dataset), searches in groups(verified, score).items():
        found = components_of(searches)
        known = {name: value for name in ("replicate", "search", "seed") if np.isfinite(value := getattr(found, name))}
        total = sum(known.values())
        for name, variance in known.items():
            freedom = _freedom(found, name)
            low, high = _interval(variance, freedom, level)
            rows.append({
                "question": question, "dataset": dataset, "component": name, "sd": np.sqrt(variance),
                "share": variance / total if total else np.nan, "low": low, "high": high, "freedom": freedom,
            })  # fmt: skip
    return pd.DataFrame(rows, columns=COLUMNS)


def _freedom(found: Components, name: str) -> float:
    """Return the degrees of freedom of a component, Satterthwaite's for the difference of two mean squares."""
    if name == "seed":
        return float(found.seed_freedom)
    if name == "replicate" or not found.search > 0:
        return np.nan
    part = found.seed / found.seeds
    return found.search**2 / (found.square**2 / found.freedom + part**2 / max(1, found.seed_freedom))


def _interval(variance: float, freedom: float, level: float) -> Floats:
    if not freedom >= 1:  # with fewer the upper end is beyond any use
        return np.array([np.nan, np.nan])
    quantiles = stats.chi2.ppf([0.5 + level / 2, 0.5 - level / 2], freedom)
    return np.sqrt(variance * freedom / quantiles)


def _positive(variance: float) -> float:
    return max(0.0, variance) if np.isfinite(variance) else np.nan
