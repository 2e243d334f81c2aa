"""Verdicts on verified results: which arm is better, by how much, and with what certainty, paired by seed."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.arms import comparisons
from analysis.statistics import (
    Floats,
    blocked_interval,
    far_from_rest,
    holm,
    iqm,
    prob_improvement,
    sign_flip,
    t_interval,
)
from supersnn.errors import UserError

MARGIN = 0.003
"""Differences up to this fraction count as equivalent: ±0.3 points."""
ALPHA = 0.05
EQUIVALENT_FROM = 5
"""Pairs from which two arms may be called equivalent."""
TINY = 1e-12
"""Differences up to this are rounding."""
COLUMNS = ("a", "b", "difference", "low", "high", "p", "prob_improvement", "equivalent", "verdict",
           "n", "blocks", "sd", "se", "iqm", "p_raw", "p_floor", "p_error", "unpaired", "collapsed", "far_seed",
           "without_far")  # fmt: skip


def verdicts(
    verified: pd.DataFrame,
    compared: Iterable[tuple[str, str]] | None = None,
    *,
    score: str = "test",
    margin: float = MARGIN,
    level: float = 0.95,
    blocks: Sequence[str] = ("sweep",),
) -> pd.DataFrame:
    """Return one row for each comparison a − b, in the order of `compared`.

    `difference` with `low` and `high` is the mean over blocks of the mean difference over seeds, with Student's
    interval of each comparison by itself; `p` is the exact sign-flip test's, Holm-adjusted over the rows, `p_raw`
    before, `p_floor` the smallest that so many pairs can reach; `prob_improvement` counts all pairs of runs;
    `equivalent` is true where the 90 % interval lies within ± `margin` (two one-sided tests at 5 %), there are at
    least `EQUIVALENT_FROM` pairs, and they differ by at least a test image; `verdict` is one of "better", "worse",
    "equivalent", "no difference found", "too few seeds", "no pairs"; `unpaired` counts seeds that only one arm has.
    `se` is the standard error of the difference. `collapsed`: all of three or more differences are equal, to a test
    image; `far_seed` is the seed whose difference is far from the others' (see `far_from_rest`, and by more than the
    margin), `without_far` the difference without it.

    Args:
        verified: rows with `arm`, `seed`, `score` and the columns of `blocks`; with a column `winner`, winners' count.
            A column `images` has the number of images that a row was tested on.
        compared: pairs of arms; `analysis.arms.comparisons` of all arms by default.
        score: the column that is compared, a fraction.
        margin: half width of the range that counts as equivalent.
        level: of the interval.
        blocks: columns that must be equal in a pair besides the seed, e.g. ("dataset", "student") over many sweeps.

    Raises:
        UserError: an arm of `compared` has no results.
    """
    scores = _scores(verified, score, [column for column in blocks if column in verified])
    names = list(dict.fromkeys(arm for block in scores.values() for arm in block))
    chosen = list(compared) if compared is not None else comparisons(names)
    if missing := [arm for pair in chosen for arm in pair if arm not in names]:
        raise UserError(f"arm {missing[0]!r} has no verified results; known: {', '.join(names) or 'none'}")
    rows = [_verdict(scores, a, b, margin, level, _resolution(verified, (a, b))) for a, b in chosen]
    tested = [row for row in rows if row["n"]]
    for row, p in zip(tested, holm([row["p_raw"] for row in tested]), strict=True):
        row["p"] = float(p)
        row["verdict"] = _word(row, min(1.0, row["p_floor"] * len(tested)))
    return pd.DataFrame(rows, columns=list(COLUMNS))


Scores = dict[str, dict[int, float]]
"""Of one block: arm → seed → score."""


def _scores(verified: pd.DataFrame, score: str, blocks: list[str]) -> dict[tuple[Any, ...], Scores]:
    """Return the winners' scores by block. Several of one arm and seed are averaged."""
    winner = verified["winner"] if "winner" in verified else [True] * len(verified)
    keys = zip(*(verified[column] for column in blocks), strict=True) if blocks else [()] * len(verified)
    columns = (verified["arm"], verified["seed"], verified[score], winner)
    grouped: dict[tuple[Any, ...], dict[str, dict[int, list[float]]]] = {}
    for key, arm, seed, value, won in zip(keys, *columns, strict=True):
        if won and math.isfinite(value):
            grouped.setdefault(key, {}).setdefault(arm, {}).setdefault(int(seed), []).append(float(value))
    return {
        key: {arm: {seed: float(np.mean(values)) for seed, values in seeds.items()} for arm, seeds in block.items()}
        for key, block in grouped.items()
    }


def _resolution(verified: pd.DataFrame, arms: tuple[str, str]) -> float:
    """Return the share of one test image, 0 where their number is not known."""
    images = verified.loc[verified["arm"].isin(arms), "images"].min() if "images" in verified else np.nan
    return 1 / images if images > 0 else 0.0


def _verdict(
    blocks: Mapping[tuple[Any, ...], Scores], a: str, b: str, margin: float, level: float, resolution: float
) -> dict[str, Any]:
    """Return one comparison, before the adjustment for the others."""
    sides = [(block.get(a, {}), block.get(b, {})) for block in blocks.values()]
    shared = [(sorted(of_a.keys() & of_b.keys()), of_a, of_b) for of_a, of_b in sides]
    unpaired = sum(len(of_a.keys() ^ of_b.keys()) for of_a, of_b in sides)
    both = [np.array([[of_a[seed], of_b[seed]] for seed in seeds]) for seeds, of_a, of_b in shared if seeds]
    row: dict[str, Any] = dict.fromkeys(COLUMNS, np.nan)
    row |= {"a": a, "b": b, "n": 0, "blocks": 0, "equivalent": False, "verdict": "no pairs", "unpaired": unpaired,
            "collapsed": False, "far_seed": None}  # fmt: skip
    if not both:
        return row
    parts = [pair[:, 0] - pair[:, 1] for pair in both]
    flat = np.concatenate(parts)
    interval, narrow = blocked_interval(parts, level), blocked_interval(parts, 1 - 2 * ALPHA)
    sd = float(flat.std(ddof=1)) if len(flat) > 1 else np.nan
    several = min(map(len, parts)) > 1
    enough = len(flat) >= EQUIVALENT_FROM and sd >= resolution
    test = sign_flip(flat, np.concatenate([np.full(len(part), 1 / (len(parts) * len(part))) for part in parts]))
    return row | {
        "difference": float(np.mean([part.mean() for part in parts])),
        "low": float(interval.low),
        "high": float(interval.high),
        "prob_improvement": float(np.mean([prob_improvement(pair[:, 0], pair[:, 1]) for pair in both])),
        "equivalent": bool(enough and -margin < narrow.low and narrow.high < margin),
        "n": len(flat),
        "blocks": len(parts),
        "sd": sd,
        "se": float(np.sqrt(sum(part.var(ddof=1) / len(part) for part in parts)) / len(parts)) if several else np.nan,
        "iqm": float(np.mean([iqm(part) for part in parts])),
        "p_raw": float(test.p),
        "p_floor": test.floor,
        "p_error": float(test.error),
        "collapsed": len(flat) > 2 and sd < max(resolution, TINY),
        **_far(parts, [(name, seeds) for name, (seeds, *_) in zip(blocks, shared, strict=True) if seeds], margin),
    }


def _far(parts: list[Floats], seeds: list[tuple[tuple[Any, ...], list[int]]], margin: float) -> dict[str, Any]:
    """Return the seed whose difference is far from the others' of its block, and the difference without it."""
    for block, ((name, names), part) in enumerate(zip(seeds, parts, strict=True)):
        position = far_from_rest(part)
        if position is not None:
            rest = np.delete(part, position)
            if abs(part[position] - rest.mean()) > margin:
                means = [rest.mean() if k == block else other.mean() for k, other in enumerate(parts)]
                several = "/".join(map(str, name)) + " " if len(parts) > 1 else ""
                return {"far_seed": f"{several}{names[position]}", "without_far": float(np.mean(means))}
    return {}


def _word(row: Mapping[str, Any], floor: float) -> str:
    """Return the verdict; `floor` is the smallest adjusted p that could have been reached."""
    if row["p"] < ALPHA:
        return "better" if row["difference"] > 0 else "worse"
    if row["equivalent"]:
        return "equivalent"
    return "too few seeds" if floor >= ALPHA else "no difference found"


def uneven(mean: float, middle: float, error: float) -> bool:
    """Return whether an interquartile mean differs from the mean by more than the standard error, if that is known."""
    return bool(math.isfinite(error) and abs(mean - middle) > max(error, TINY))


def arms(verified: pd.DataFrame, score: str = "test", level: float = 0.95) -> pd.DataFrame:
    """Return a row for each arm: `n`, `mean`, `low`, `high` (Student's interval), `iqm`, `sd`, `se`, and `shrinkage`.

    `shrinkage` is the search's value less the mean validation accuracy of the fresh seeds: the selection bias (winner's
    curse) of the winner's score.
    """
    rows = verified[verified["winner"].astype(bool)] if "winner" in verified else verified
    summaries = []
    for (sweep, arm), part in rows.dropna(subset=[score]).groupby(["sweep", "arm"], sort=False):
        values = part[score].to_numpy()
        interval = t_interval(values, level)
        summaries.append({
            "sweep": sweep, "arm": arm, "n": len(values), "mean": values.mean(), "low": float(interval.low),
            "high": float(interval.high), "iqm": float(iqm(values)),
            "sd": values.std(ddof=1) if len(values) > 1 else np.nan,
            "se": values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan,
            "shrinkage": part["search_value"].iloc[0] - part["val"].mean(),
        })  # fmt: skip
    names = ["sweep", "arm", "n", "mean", "low", "high", "iqm", "sd", "se", "shrinkage"]
    return pd.DataFrame(summaries, columns=names)
