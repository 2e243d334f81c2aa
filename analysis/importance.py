"""Parameter importances by arm with their uncertainty; the score along one parameter or two."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import optuna
import pandas as pd
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.importance import BaseImportanceEvaluator, FanovaImportanceEvaluator, PedAnovaImportanceEvaluator

Method = Literal["ped-anova", "fanova"]
COLUMNS = ["sweep", "arm", "parameter", "importance", "low", "high", "chance", "trials"]
FEWEST = 8
"""Eligible trials below which an arm's importances are not computed."""
TOP = 0.25
"""The share of the trials that PED-ANOVA compares with the others."""


def parameters(trials: pd.DataFrame) -> list[str]:
    """Return the sampled parameters of a trials table: its columns with a dot in the name."""
    return [column for column in trials.columns if "." in column]


def importances(
    trials: pd.DataFrame,
    method: Method = "ped-anova",
    space: Mapping[str, Any] | None = None,
    repeats: int = 30,
    band: float = 0.8,
    most: int = 200,
    seed: int = 0,
) -> pd.DataFrame:
    """Return each arm's parameters with their share of importance, most important first.

    `low` and `high` are as far from it as the central `band` of bootstrap samples of the trials is from their median.
    `chance` is the 95 % quantile of parameters without any effect (the same evaluation with the scores shuffled): a
    parameter not above it has not been shown to matter. fANOVA gives shares only, which makes its level a strict one.
    Only eligible trials count, and only parameters that all of an arm's eligible trials have and vary.

    Args:
        trials: the trials table.
        method: "ped-anova" (Watanabe et al. 2023: importance for reaching the top quarter) or "fanova" (Hutter et al.
            2014: shares of the variance; slower).
        space: the sweep file's `space`, for the parameters' scales; by default wide positive ranges are logarithmic.
        repeats: bootstrap samples, and as many shuffles.
        band: central share of the bootstrap that `low` and `high` bound.
        most: maximal number of trials in one evaluation, drawn evenly.
        seed: of the bootstrap, the shuffles and the forest.
    """
    parts = []
    for (sweep, arm), part in _eligible(trials).groupby(["sweep", "arm"], sort=False):
        names = [k for k in parameters(part) if part[k].notna().all() and part[k].nunique() > 1]
        if len(part) < FEWEST or not names:
            continue
        with _quiet():
            table = _of_arm(part, names, method, space or {}, repeats, band, most, seed)
        parts.append(table.assign(sweep=str(sweep), arm=str(arm)))
    return pd.concat(parts, ignore_index=True)[COLUMNS] if parts else pd.DataFrame(columns=COLUMNS)


def _of_arm(
    part: pd.DataFrame, names: list[str], method: Method, space: Mapping[str, Any], repeats: int, band: float,
    most: int, seed: int,
) -> pd.DataFrame:  # fmt: skip
    rng = np.random.default_rng(seed)
    distributions = {name: _distribution(part[name], space.get(name)) for name in names}
    values = part["value"].to_numpy(dtype=float)
    columns = {name: part[name].tolist() for name in names}
    size = min(len(values), most)

    def weights(rows: np.ndarray, scores: np.ndarray) -> np.ndarray:
        return _weights(columns, distributions, rows, scores, _evaluator(method, seed))

    def shares(rows: np.ndarray) -> np.ndarray:
        drawn = weights(rows, values[rows])
        return drawn / (float(drawn.sum()) or 1.0)

    every = rng.permutation(len(values))[:size]
    estimate = weights(every, values[every])
    total = float(estimate.sum()) or 1.0
    resampled = [shares(rng.integers(0, len(values), size)) for _ in range(repeats)]
    shuffled = [weights(every, rng.permutation(values[every])) / total for _ in range(repeats)]
    low, middle, high = np.quantile(resampled, [(1 - band) / 2, 0.5, (1 + band) / 2], axis=0)
    table = pd.DataFrame({
        "parameter": names,
        "importance": estimate / total,
        "low": np.maximum(estimate / total + low - middle, 0.0),
        "high": np.minimum(estimate / total + high - middle, 1.0),
        "chance": np.minimum(np.quantile(shuffled, 0.95, axis=0), 1.0),
        "trials": len(values),
    })  # fmt: skip
    return table.sort_values("importance", ascending=False, ignore_index=True)


def _weights(
    columns: Mapping[str, list[Any]], distributions: Mapping[str, BaseDistribution], rows: np.ndarray,
    scores: np.ndarray, evaluator: BaseImportanceEvaluator,
) -> np.ndarray:  # fmt: skip
    """Return importances in the order of `columns`, on the evaluator's own scale; 0 where the scores are equal."""
    study = optuna.create_study(direction="maximize")
    study.add_trials([
        optuna.trial.create_trial(params={name: values[row] for name, values in columns.items()},
                                  distributions=dict(distributions), value=float(score))
        for row, score in zip(rows, scores, strict=True)
    ])  # fmt: skip
    importance = evaluator.evaluate(study, params=list(columns))
    return np.nan_to_num(np.array([max(0.0, float(importance[name])) for name in columns]))


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Optuna's log line for each study that is created."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


def _evaluator(method: Method, seed: int) -> BaseImportanceEvaluator:
    if method == "fanova":
        return FanovaImportanceEvaluator(n_trees=24, max_depth=16, seed=seed)
    return PedAnovaImportanceEvaluator(target_quantile=TOP)


def _distribution(values: pd.Series, parameter: Mapping[str, Any] | None) -> BaseDistribution:
    categorical = bool(parameter and parameter.get("categorical"))
    if categorical or not pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
        return CategoricalDistribution(sorted(values.unique().tolist(), key=str))
    low, high = float(values.min()), float(values.max())
    return FloatDistribution(low, high, log=logarithmic(values, parameter))


def logarithmic(values: pd.Series, parameter: Mapping[str, Any] | None = None) -> bool:
    """Return whether a parameter is searched on a logarithmic scale: by the sweep file, else by its range."""
    low, high = float(values.min()), float(values.max())
    return bool(parameter["log"]) if parameter and "log" in parameter else low > 0 and high / low > 30


def marginals(trials: pd.DataFrame, parameter: str, bins: int | None = None) -> pd.DataFrame:
    """Return the number and the scores of the eligible trials, per arm and bin of a parameter.

    Columns: `sweep`, `arm`, `at` (the bin's middle, or the category), `trials`, `median`, `low`, `high` (quartiles),
    `best`. Bins hold about equally many trials of all arms together; by default there are as many bins, from 2 to 8,
    as give each arm about five trials in each.
    """
    done = _eligible(trials).dropna(subset=[parameter])
    bins = bins or int(np.clip(len(done) / max(1, done["arm"].nunique()) / 5, 2, 8))
    if pd.api.types.is_numeric_dtype(done[parameter]) and done[parameter].nunique() > bins:
        cut = pd.qcut(done[parameter], bins, duplicates="drop")
        middles = done.groupby(cut, observed=True)[parameter].median()
        at = cut.map(middles).astype(float)
    else:
        at = done[parameter]
    groups = done.assign(at=at).groupby(["sweep", "arm", "at"], sort=False)["value"]
    table = groups.agg(
        trials="size", median="median", low=lambda v: v.quantile(0.25), high=lambda v: v.quantile(0.75), best="max"
    )
    return table.reset_index().sort_values(["sweep", "arm", "at"], ignore_index=True)


def landscape(trials: pd.DataFrame, x: str, y: str) -> pd.DataFrame:
    """Return the eligible trials that have both parameters: `sweep`, `arm`, `trial`, `x`, `y`, `value`."""
    if x not in trials or y not in trials:
        return pd.DataFrame(columns=["sweep", "arm", "trial", "x", "y", "value"])
    done = _eligible(trials).dropna(subset=[x, y])
    return done[["sweep", "arm", "trial", x, y, "value"]].rename(columns={x: "x", y: "y"}).reset_index(drop=True)


def _eligible(trials: pd.DataFrame) -> pd.DataFrame:
    return trials[trials["eligible"]]
