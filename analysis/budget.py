"""Compute spent and accuracy found: costs with and without teachers, best so far, equal trials, equal compute."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd
from scipy.special import gammaln

from analysis.tables import Tables, best_first, search_of

By = Literal["trials", "compute"]


def costs(tables: Tables) -> pd.DataFrame:
    """Return each arm's seconds of training and their `total`.

    Columns: `sweep`, `arm`; the students' `search`, `ranking` and `verify`; `teacher`, with its cache; `refit`, that of
    the winner's teacher where it was refitted for the final runs. A teacher that two arms share is charged to both in
    full: either would have needed it alone.
    """
    keys, trials, refitted = ["sweep", "arm"], tables.trials, tables.teachers["refitted"]
    table = pd.DataFrame({"search": trials.groupby(keys, sort=False)["seconds"].sum()})
    table["ranking"] = tables.ranked.groupby(keys)["seconds"].sum()
    table["verify"] = tables.verified.groupby(keys)["seconds"].sum()
    table["teacher"] = _teacher_seconds(trials, tables.teachers[~refitted])
    table["refit"] = _teacher_seconds(trials[trials["winner"]], tables.teachers[refitted])
    table = table.fillna(0.0)
    return table.assign(total=table.sum(axis=1)).reset_index()


def progress(trials: pd.DataFrame, teachers: pd.DataFrame, *, with_teacher: bool = False) -> pd.DataFrame:
    """Return one row for each trial that has ended, in the order of their ends within each search.

    Columns: `sweep`, `dataset`, `replicate`, `arm`, `trial`, `state`, `order` (from 1), `compute` (the search's seconds
    so far), `value`, `eligible`, `best` (the best value of the eligible trials so far: trained to the end, within the
    constraints).

    Args:
        trials: the trials table.
        teachers: the teachers table.
        with_teacher: start a search's compute at what its arm's teachers and their caches cost before it.
    """
    search = search_of(trials)
    done = trials[trials["state"] != "running"].sort_values([*search, "ended"], kind="stable")
    table = done[[*search, "trial", "state", "value", "eligible"]].reset_index(drop=True)
    groups = [table[name] for name in search]
    table["order"] = table.groupby(groups).cumcount() + 1
    spent = done["seconds"].fillna(0.0).reset_index(drop=True)
    table["compute"] = spent.groupby(groups).cumsum()
    if with_teacher:
        before = _teacher_seconds(trials, teachers[~teachers["refitted"]], each=True)
        keys = table.fillna({"dataset": ""})[before.index.names]
        table["compute"] += [before[tuple(key)] for key in keys.itertuples(index=False)]
    counted = table["value"].where(table["eligible"])
    table["best"] = counted.groupby(groups).cummax().groupby(groups).ffill()
    return table[[*search, "trial", "state", "order", "compute", "value", "eligible", "best"]]


def at_equal(
    trials: pd.DataFrame, teachers: pd.DataFrame, by: By = "trials", *, with_teacher: bool = False
) -> pd.DataFrame:
    """Return each search's best trial within the budget of the arm that spent least, within a replicate.

    Columns: `sweep`, `dataset`, `replicate`, `arm`, `by`, `budget` (trials, or seconds), `trials` and `seconds` used
    within it, `best` and its `trial`, and `verdict_holds`: that trial is the arm's best of all, and the verified winner
    is within the budget, so that the verdict holds at this budget too.
    """
    path = progress(trials, teachers, with_teacher=with_teacher)
    measure = "order" if by == "trials" else "compute"
    rows = []
    search = search_of(trials)
    winning = trials[trials["winner"]]
    winners = {key: set(part["trial"]) for key, part in winning.groupby(search, sort=False, dropna=False)}
    for replicate, of_replicate in path.groupby(search[:-1], sort=False, dropna=False):
        budget = of_replicate.groupby("arm")[measure].max().min()
        for arm, part in of_replicate.groupby("arm", sort=False):
            within = part[part[measure] <= budget]
            best, overall = (_best(trials_so_far) for trials_so_far in (within, part))
            key = (*replicate, arm)
            rows.append({
                **dict(zip(search, key, strict=True)), "by": by, "budget": float(budget), "trials": len(within),
                "seconds": float(within["compute"].max()) if len(within) else 0.0, **best,
                "verdict_holds": best == overall and bool(within["trial"].isin(winners.get(key, set())).any()),
            })  # fmt: skip
    names = [*search, "by", "budget", "trials", "seconds", "best", "trial", "verdict_holds"]
    return pd.DataFrame(rows, columns=names)


def _best(path: pd.DataFrame) -> dict[str, float | None]:
    """Return the best eligible trial and its value."""
    best = best_first(path[path["eligible"]])
    if best.empty:
        return {"best": None, "trial": None}
    return {"best": float(best["value"].iloc[0]), "trial": int(best["trial"].iloc[0])}


def expected_best(values: np.ndarray, at: Sequence[int] | None = None, band: float = 0.8) -> pd.DataFrame:
    """Return, for each n in `at` (1 … N by default), the expected best of n of these N values, without replacement.

    P(best of n ≤ v₍ᵢ₎) = C(i, n) / C(N, n) for the i-th smallest value: its mean is `expected`, its quantiles `low`
    and `high` bound the central `band` of the best values of searches of n trials. The mean is Dodge et al. 2019,
    "Show Your Work", without their replacement, which biases it. It assumes trials in no order: true of start-up
    designs and of random search, an approximation for a sampler that learns.
    """
    x = np.sort(np.asarray(values, dtype=float))
    total = len(x)
    n = np.arange(1, total + 1) if at is None else np.asarray(at)
    below = np.exp(_log_choose(np.arange(1, total + 1)[:, None], n) - _log_choose(total, n))
    share = np.diff(below, axis=0, prepend=0.0)
    low, high = (x[np.argmax(below >= edge - 1e-9, axis=0)] for edge in ((1 - band) / 2, (1 + band) / 2))
    return pd.DataFrame({"n": n, "expected": x @ share, "low": low, "high": high})


def expected_best_by_arm(trials: pd.DataFrame, band: float = 0.8, most: int = 120) -> pd.DataFrame:
    """Return `expected_best` of each arm's ended trials with `sweep` and `arm`, at `most` values of n or fewer.

    A trial that is not eligible (stopped, failed, or outside the constraints) counts with the lowest value of its
    sweep: it was a trial, but a search would not have chosen it.
    """
    done = trials[trials["state"] != "running"]
    floor = done.groupby("sweep")["value"].transform("min")
    counted = done["value"].where(done["eligible"]).fillna(floor)
    parts = []
    for (sweep, arm), values in counted.dropna().groupby([done["sweep"], done["arm"]], sort=False):
        at = np.unique(np.geomspace(1, len(values), most).round().astype(int))
        parts.append(expected_best(values.to_numpy(), at.tolist(), band).assign(sweep=str(sweep), arm=str(arm)))
    return (
        pd.concat(parts, ignore_index=True)
        if parts
        else pd.DataFrame(columns=["n", "expected", "low", "high", "sweep", "arm"])
    )


def _log_choose(n: np.ndarray | int, k: np.ndarray) -> np.ndarray:
    n, k = np.broadcast_arrays(np.asarray(n, dtype=float), np.asarray(k, dtype=float))
    with np.errstate(invalid="ignore"):
        chosen = gammaln(n + 1) - gammaln(k + 1) - gammaln(np.maximum(n - k, 0) + 1)
    return np.where(k <= n, chosen, -np.inf)


def _teacher_seconds(trials: pd.DataFrame, teachers: pd.DataFrame, each: bool = False) -> pd.Series:
    """Return the seconds of an arm's teachers and their caches, by (sweep, arm); 0 where there are none.

    `each`: on one data set in one replicate, by (sweep, data set, arm); on average over the replicates.
    """
    place = [name for name in ("sweep", "dataset") if name in teachers and (each or name == "sweep")]
    used = trials[[*place, "arm", "teacher"]].fillna({"dataset": ""}).drop_duplicates()
    cost = teachers.assign(cost=teachers[["seconds", "bank_seconds"]].sum(axis=1)).fillna({"dataset": ""})
    costs = cost.groupby([*place, "name"])["cost"]
    known = costs.mean() if each else costs.sum()
    keys = zip(*(used[name] for name in (*place, "teacher")), strict=True)
    used["cost"] = [known.get(key, 0.0) if isinstance(key[-1], str) else 0.0 for key in keys]
    return used.groupby([*place, "arm"], sort=False)["cost"].sum()
