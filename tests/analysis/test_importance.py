"""Importances find the parameters that matter and no others; marginals and the landscape show their optimum."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from analysis import importance, load
from analysis.tables import Sweep

Write = Callable[..., Path]

MATTER = {"neuron.threshold", "optimizer.lr"}


@pytest.fixture
def sweep(synthetic: Write) -> Sweep:
    return load.sweep(synthetic(trials=120, epochs=2, noise=0.001))


@pytest.mark.parametrize(("method", "repeats"), [("ped-anova", 30), ("fanova", 3)])
def test_the_parameters_that_matter_come_first(sweep: Sweep, method: importance.Method, repeats: int) -> None:
    table = importance.importances(sweep.trials, method, sweep.config["space"], repeats=repeats)
    for _, part in table.groupby("arm"):
        assert set(part["parameter"].head(2)) == MATTER
        assert part["importance"].is_monotonic_decreasing
    assert ((table["low"] <= table["importance"]) & (table["importance"] <= table["high"])).all()
    if method == "ped-anova":
        above = table["importance"] > table["chance"]
        assert above[table["parameter"].isin(MATTER)].all()
        assert above[~table["parameter"].isin(MATTER)].sum() <= 1


def test_importances_are_the_same_at_every_call(sweep: Sweep) -> None:
    first, second = (importance.importances(sweep.trials, repeats=5) for _ in range(2))
    assert first.equals(second)


def test_too_few_trials_have_no_importances(synthetic: Write) -> None:
    sweep = load.sweep(synthetic(trials=5))
    assert len(importance.importances(sweep.trials)) == 0


def test_parameters_that_are_missing_or_fixed_are_left_out(sweep: Sweep) -> None:
    trials = sweep.trials.assign(**{"train.epochs": 12})
    table = importance.importances(trials, repeats=2)
    assert "train.epochs" not in set(table["parameter"])
    assert "loss.relation.weight" not in set(table.loc[table["arm"] == "direct", "parameter"])
    assert set(table.loc[table["arm"] == "homogeneous", "parameter"]) >= {"loss.relation.weight"}


def test_scale_of_a_parameter_is_the_sweep_files_else_by_its_range(sweep: Sweep) -> None:
    lr, threshold = sweep.trials["optimizer.lr"], sweep.trials["neuron.threshold"]
    assert importance.logarithmic(lr, {"uniform": None, "log": [0.01, 0.3]})
    assert not importance.logarithmic(threshold, {"uniform": [0.3, 2.0], "log": None})
    assert importance.logarithmic(sweep.trials["loss.relation.weight"].dropna())
    assert not importance.logarithmic(threshold)


def test_marginals_peak_where_the_truth_does(sweep: Sweep) -> None:
    table = importance.marginals(sweep.trials, "neuron.threshold", bins=6)
    for _, part in table.groupby("arm"):
        assert abs(part.nlargest(1, "median")["at"].item() - 0.9) < 0.45
    done = sweep.trials[sweep.trials["state"] == "finished"]
    assert table["trials"].sum() == len(done)
    assert table["best"].max() == done["value"].max()
    by_kind = importance.marginals(sweep.trials, "neuron.surrogate")
    assert set(by_kind["at"]) == {"triangle", "atan", "sigmoid"}


def test_landscape_holds_the_eligible_trials_with_both_parameters(sweep: Sweep) -> None:
    points = importance.landscape(sweep.trials, "loss.relation.weight", "neuron.threshold")
    assert set(points["arm"]) == {"homogeneous", "heterogeneous"}
    assert np.isfinite(points[["x", "y", "value"]]).all(axis=None)
    assert len(importance.landscape(sweep.trials, "loss.relation.weight", "no.parameter")) == 0
