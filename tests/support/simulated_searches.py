"""Simulated sweeps with a known truth, as tables of final runs: searches of arms and fresh seeds of their winners."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

ARMS = ("direct", "homogeneous", "heterogeneous")
SEED_SD = 0.007


def searches(
    sweeps: int,
    replicates: int,
    seeds: int,
    search_sd: float = 0.0,
    gains: Mapping[str, float] | Sequence[str] = ARMS,
    shared_sd: float = 0.0,
    datasets: int = 1,
    same_draws: bool = False,
    random_state: int = 0,
) -> pd.DataFrame:
    """Return a table of the final runs of many sweeps, told apart by `question`.

    Args:
        sweeps: how many.
        replicates: searches of each arm on each data set.
        seeds: final runs of each winner, which differ by `SEED_SD`.
        search_sd: standard deviation between the winners of an arm.
        gains: each arm's true advantage; arms alone have none.
        shared_sd: standard deviation between replicates, the same for all arms.
        datasets: how many each sweep has.
        same_draws: whether a replicate's winners of an arm are as lucky on all data sets, as where the same proposals
            are good everywhere.
        random_state: of the random numbers.
    """
    rng = np.random.default_rng(random_state)
    arms = list(gains)
    gain = np.array([gains[arm] for arm in arms] if isinstance(gains, Mapping) else [0.0] * len(arms))
    shape = (sweeps, datasets, replicates, len(arms), seeds)
    scores = 0.9 + gain[:, None] + rng.normal(0, SEED_SD, shape)
    lucky = rng.normal(0, 1, (sweeps, 1 if same_draws else datasets, *shape[2:-1], 1))
    scores += lucky * search_sd + rng.normal(0, 1, (*shape[:3], 1, 1)) * shared_sd
    question, dataset, replicate, arm, seed = np.indices(shape).reshape(5, -1)
    return pd.DataFrame({
        "question": question.astype(str), "dataset": dataset.astype(str), "replicate": replicate,
        "arm": np.array(arms)[arm], "seed": seed, "test": scores.ravel(), "val": scores.ravel(), "search_value": 0.9,
    })  # fmt: skip


def alarms(verdicts: pd.DataFrame, sweeps: int) -> float:
    """Return the share of the sweeps in which an arm is called better or worse, of verdicts in the sweeps' order."""
    found = verdicts["verdict"].isin(["better", "worse"]).to_numpy()
    return float(found.reshape(sweeps, -1).any(1).mean())
