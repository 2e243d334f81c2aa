"""Accuracy against the costs of inference: Pareto fronts and hypervolumes."""

import numpy as np
import pandas as pd

from supersnn.records.metrics import SYNAPTIC_OPS


def front(cost: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Return which points [n] are Pareto-optimal.

    Of such a point, no other costs at most as much and scores at least as well, one of both strictly. Equal points are
    all on the front, points with NaN never.
    """
    known = ~(np.isnan(cost) | np.isnan(score))
    order = np.lexsort((-score, cost))
    order = order[known[order]]
    best, on = -np.inf, np.zeros(len(cost), dtype=bool)
    kept_cost = np.nan
    for k in order:
        if score[k] > best or (score[k] == best and cost[k] == kept_cost):
            on[k] = True
            best, kept_cost = score[k], cost[k]
    return on


def hypervolume(cost: np.ndarray, score: np.ndarray, reference: tuple[float, float]) -> float:
    """Return the area that the points' front dominates up to a reference (cost, score); more is better.

    Points that are not better than the reference in both add nothing (Zitzler & Thiele 1999, in two dimensions).
    """
    on = front(cost, score) & (cost < reference[0]) & (score > reference[1])
    points = np.unique(np.column_stack([cost[on], score[on]]), axis=0)
    area, floor = 0.0, reference[1]
    for x, y in points:
        area += (reference[0] - x) * (y - floor)
        floor = y
    return float(area)


def points(trials: pd.DataFrame, cost: str = SYNAPTIC_OPS.key) -> pd.DataFrame:
    """Return the eligible trials with `sweep`, `arm`, `trial`, `cost`, `value`, `winner`, `front` and `arm_front`.

    `front`: on its sweep's front; `arm_front`: on its arm's. `cost` is a metric's key.
    """
    columns = ["sweep", "arm", "trial", "cost", "value", "winner"]
    if cost not in trials:
        return pd.DataFrame(columns=[*columns, "front", "arm_front"])
    done = trials[trials["eligible"]].rename(columns={cost: "cost"}).dropna(subset=["cost", "value"])
    table = done[columns].reset_index(drop=True)
    for mark, keys in (("front", ["sweep"]), ("arm_front", ["sweep", "arm"])):
        table[mark] = False
        for rows in table.groupby(keys).indices.values():
            table.loc[table.index[rows], mark] = front(table["cost"].to_numpy()[rows], table["value"].to_numpy()[rows])
    return table


def hypervolumes(points: pd.DataFrame) -> pd.DataFrame:
    """Return each arm's hypervolume as a share of its sweep's box, and how many of its trials are on the sweep's front.

    The box spans the sweep's costs and values; its costliest and worst corner is the reference.
    """
    rows = []
    for sweep, part in points.groupby("sweep", sort=False):
        reference = float(part["cost"].max()), float(part["value"].min())
        box = (reference[0] - part["cost"].min()) * (part["value"].max() - reference[1])
        for arm, own in part.groupby("arm", sort=False):
            area = hypervolume(own["cost"].to_numpy(), own["value"].to_numpy(), reference)
            rows.append({"sweep": sweep, "arm": arm, "hypervolume": area / box if box > 0 else np.nan,
                         "on_front": int(own["front"].sum()), "trials": len(own)})  # fmt: skip
    return pd.DataFrame(rows, columns=["sweep", "arm", "hypervolume", "on_front", "trials"])
