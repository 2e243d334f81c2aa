"""Accuracy against what a spiking network is for: few operations, little energy."""

import numpy as np
import pandas as pd

COSTS = {
    "ops/synaptic": "synaptic operations an image",
    "energy/nj": "energy, nJ an image",
    "spikes/rate": "spike rate",
}


def front(cost: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Return which points [n] no other beats, by costing at most as much and scoring at least as well, one strictly.

    Of equal points each is on the front. Points with NaN never are.
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
    """Return the area that the points' front dominates up to a reference (cost, score): more is better.

    Points no better than the reference in either add nothing (Zitzler & Thiele 1999, in two dimensions).
    """
    on = front(cost, score) & (cost < reference[0]) & (score > reference[1])
    points = np.unique(np.column_stack([cost[on], score[on]]), axis=0)
    area, floor = 0.0, reference[1]
    for x, y in points:
        area += (reference[0] - x) * (y - floor)
        floor = y
    return float(area)


def points(trials: pd.DataFrame, cost: str = "ops/synaptic") -> pd.DataFrame:
    """Return the finished trials with `sweep`, `arm`, `trial`, `cost`, `value`, `winner`, and two marks.

    `front`: on its sweep's front; `arm_front`: on its arm's.
    """
    columns = ["sweep", "arm", "trial", "cost", "value", "winner"]
    if cost not in trials:
        return pd.DataFrame(columns=[*columns, "front", "arm_front"])
    done = trials[(trials["state"] == "finished")].rename(columns={cost: "cost"}).dropna(subset=["cost", "value"])
    table = done[columns].reset_index(drop=True)
    for mark, keys in (("front", ["sweep"]), ("arm_front", ["sweep", "arm"])):
        table[mark] = False
        for rows in table.groupby(keys).indices.values():
            table.loc[table.index[rows], mark] = front(table["cost"].to_numpy()[rows], table["value"].to_numpy()[rows])
    return table


def hypervolumes(points: pd.DataFrame) -> pd.DataFrame:
    """Return each arm's hypervolume as a share of its sweep's box, and how many of its trials the sweep's front holds.

    The box reaches from the sweep's cheapest and best trial to its costliest and worst, which is the reference.
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
