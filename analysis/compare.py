"""Which arm is better, by how much, and how sure that is: verdicts on verified results, paired by seed."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from analysis.errors import UserError
from analysis.statistics import blocked_interval, holm, iqm, prob_improvement, sign_flip, t_interval

MARGIN = 0.003
"""Differences up to this, as a fraction, are taken as equivalent: ±0.3 points."""
ALPHA = 0.05
BASELINE = "direct"
COLUMNS = ("a", "b", "difference", "low", "high", "p", "prob_improvement", "equivalent", "verdict",
           "n", "blocks", "sd", "iqm", "p_raw", "p_floor", "p_error", "unpaired")  # fmt: skip


def pairs(arms: Sequence[str]) -> list[tuple[str, str]]:
    """Return who is compared: heterogeneous with homogeneous, then each arm with the one without a teacher."""
    first = [("heterogeneous", "homogeneous")] if {"heterogeneous", "homogeneous"} <= set(arms) else []
    rest = [(arm, BASELINE) for arm in arms if arm != BASELINE] if BASELINE in arms else []
    return first + rest


def verdicts(
    verified: pd.DataFrame,
    compared: Iterable[tuple[str, str]] | None = None,
    *,
    score: str = "test",
    margin: float = MARGIN,
    level: float = 0.95,
    blocks: Sequence[str] = ("sweep",),
) -> pd.DataFrame:
    """Return one row a comparison a − b, in the order of `compared`.

    `difference` with `low` and `high` is the mean over blocks of the mean difference over seeds, with Student's
    interval of each comparison by itself; `p` is the exact sign-flip test's, Holm-adjusted over the rows, `p_raw`
    before, `p_floor` the smallest that so many pairs can reach; `prob_improvement` counts all pairs of runs;
    `equivalent` is true where the 90 % interval lies within ± `margin` (two one-sided tests at 5 %); `verdict` is
    one of "better", "worse", "equivalent", "no difference found", "too few seeds"; `unpaired` counts seeds that
    only one side has.

    Args:
        verified: rows with `arm`, `seed`, `score` and the columns of `blocks`; only winners' where that is told.
        compared: pairs of arms; `pairs` of all arms by default.
        score: the column that is compared, a fraction.
        margin: half width of what counts as equivalent.
        level: of the interval.
        blocks: what must be equal in a pair besides the seed, e.g. ("dataset", "student") over many sweeps.

    Raises:
        UserError: an arm of `compared` has no results.
    """
    rows = verified[verified["winner"].astype(bool)] if "winner" in verified else verified
    rows = rows.dropna(subset=[score])
    arms = list(dict.fromkeys(rows["arm"]))
    chosen = list(compared) if compared is not None else pairs(arms)
    keys = [column for column in blocks if column in rows]
    scores = rows.pivot_table(index=[*keys, "seed"], columns="arm", values=score, aggfunc="mean")
    found = [_verdict(scores, keys, a, b, margin, level) for a, b in chosen]
    table = pd.DataFrame(found, columns=list(COLUMNS))
    tested = table["p_raw"].notna().to_numpy()
    table["p"] = table["p_raw"]
    if tested.any():
        table.loc[tested, "p"] = holm(table.loc[tested, "p_raw"])
    table["verdict"] = [_word(row, float(min(1.0, row.p_floor * tested.sum()))) for row in table.itertuples()]
    return table


def _verdict(scores: pd.DataFrame, keys: list[str], a: str, b: str, margin: float, level: float) -> dict[str, object]:
    for arm in (a, b):
        if arm not in scores:
            raise UserError(f"arm {arm!r} has no verified results; there: {', '.join(scores.columns) or 'none'}")
    both = scores[[a, b]].dropna(how="all")
    paired = both.dropna()
    difference = paired[a] - paired[b]
    parts = [part.to_numpy() for _, part in difference.groupby(level=keys)] if keys else [difference.to_numpy()]
    parts = [part for part in parts if len(part)]
    empty = {"a": a, "b": b, "n": 0, "blocks": 0, "equivalent": False, "unpaired": len(both)}
    if not parts:
        return {column: empty.get(column, np.nan) for column in COLUMNS}
    interval, narrow = blocked_interval(parts, level), blocked_interval(parts, 1 - 2 * ALPHA)
    weights = np.concatenate([np.full(len(part), 1 / (len(parts) * len(part))) for part in parts])
    flat = np.concatenate(parts)
    test = sign_flip(flat, weights)
    improvement = [prob_improvement(part[a], part[b]) for part in _by(paired, keys)]
    return {
        "a": a,
        "b": b,
        "difference": float(np.mean([part.mean() for part in parts])),
        "low": float(interval.low),
        "high": float(interval.high),
        "prob_improvement": float(np.mean(improvement)),
        "equivalent": bool(-margin < narrow.low and narrow.high < margin),
        "n": len(flat),
        "blocks": len(parts),
        "sd": float(flat.std(ddof=1)) if len(flat) > 1 else np.nan,
        "iqm": float(np.mean([iqm(part) for part in parts])),
        "p_raw": float(test.p),
        "p_floor": test.floor,
        "p_error": float(test.error),
        "unpaired": len(both) - len(paired),
    }


def _by(paired: pd.DataFrame, keys: list[str]) -> list[pd.DataFrame]:
    return [part for _, part in paired.groupby(level=keys)] if keys else [paired]


def _word(row: object, floor: float) -> str:
    difference, p = row.difference, row.p  # type: ignore[attr-defined]
    if p < ALPHA:
        return "better" if difference > 0 else "worse"
    if row.equivalent:  # type: ignore[attr-defined]
        return "equivalent"
    return "too few seeds" if not floor < ALPHA else "no difference found"


def arms(verified: pd.DataFrame, score: str = "test", level: float = 0.95) -> pd.DataFrame:
    """Return a row an arm: `n`, `mean`, `low`, `high` (Student's interval), `iqm`, `sd`, and `shrinkage`.

    `shrinkage` is the search's value less the mean validation accuracy of the fresh seeds: how much of the
    winner's score was luck.
    """
    rows = verified[verified["winner"].astype(bool)] if "winner" in verified else verified
    found = []
    for (sweep, arm), part in rows.dropna(subset=[score]).groupby(["sweep", "arm"], sort=False):
        values = part[score].to_numpy()
        interval = t_interval(values, level)
        found.append({
            "sweep": sweep, "arm": arm, "n": len(values), "mean": values.mean(), "low": float(interval.low),
            "high": float(interval.high), "iqm": float(iqm(values)),
            "sd": values.std(ddof=1) if len(values) > 1 else np.nan,
            "shrinkage": part["search_value"].iloc[0] - part["val"].mean(),
        })  # fmt: skip
    names = ["sweep", "arm", "n", "mean", "low", "high", "iqm", "sd", "shrinkage"]
    return pd.DataFrame(found, columns=names)
