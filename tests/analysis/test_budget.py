"""Costs, progress, equal budgets, and the expected best of n, by hand and against a loop."""

import json
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis import budget, compare, load, report
from analysis.findings import findings
from analysis.tables import records

Write = Callable[..., Path]


def trial(
    arm: str, number: int, value: float, seconds: float, state: str = "finished", teacher: str | None = None,
    winner: bool = False, feasible: bool = True,
) -> dict[str, Any]:  # fmt: skip
    return {"sweep": "s", "arm": arm, "trial": number, "state": state, "value": value, "seconds": seconds,
            "ended": float(number), "teacher": teacher, "winner": winner,
            "feasible": feasible, "eligible": state == "finished" and feasible}  # fmt: skip


TRIALS = pd.DataFrame([
    trial("direct", 0, 0.5, 10), trial("direct", 1, 0.9, 10, state="stopped"), trial("direct", 2, 0.6, 10, winner=True),
    trial("logit", 0, 0.7, 20, teacher="vgg8"), trial("logit", 1, 0.65, 20, teacher="vgg8"),
    trial("logit", 2, 0.8, 20, teacher="vgg8", winner=True),
    trial("logit", 3, np.nan, 5, state="running", teacher="vgg8"),
])  # fmt: skip
TEACHERS = pd.DataFrame([{"sweep": "s", "name": "vgg8", "seconds": 12.0, "bank_seconds": 3.0, "refitted": False}])


def test_progress_counts_eligible_trials_in_the_order_of_their_ends() -> None:
    path = budget.progress(TRIALS, TEACHERS)
    direct = path[path["arm"] == "direct"]
    assert direct["best"].tolist() == [0.5, 0.5, 0.6]
    assert direct["compute"].tolist() == [10, 20, 30]
    assert path[path["arm"] == "logit"]["order"].tolist() == [1, 2, 3]
    loaded = budget.progress(TRIALS, TEACHERS, with_teacher=True)
    assert loaded[loaded["arm"] == "logit"]["compute"].tolist() == [35, 55, 75]
    assert loaded[loaded["arm"] == "direct"]["compute"].tolist() == [10, 20, 30]


def test_a_search_begins_at_the_cost_of_its_own_data_sets_teachers() -> None:
    trials = pd.concat([TRIALS.assign(dataset=name, replicate=0) for name in ("a", "b")], ignore_index=True)
    teachers = pd.concat(
        [TEACHERS.assign(dataset=name, seconds=seconds) for name, seconds in (("a", 12.0), ("a", 14.0), ("b", 97.0))],
        ignore_index=True,
    )
    loaded = budget.progress(trials, teachers, with_teacher=True).query("arm == 'logit'")
    first = loaded.groupby("dataset")["compute"].first()
    assert first.to_dict() == {"a": 36.0, "b": 120.0}, "of two replicates' teachers the mean"


def test_equal_trials_and_equal_compute() -> None:
    rows = budget.at_equal(TRIALS, TEACHERS, "trials").set_index("arm")
    assert rows["verdict_holds"].all()
    direct, logit = records(budget.at_equal(TRIALS, TEACHERS, "compute"))
    assert [direct[k] for k in ("budget", "trials", "best", "verdict_holds")] == [30, 3, 0.6, True]
    assert [logit[k] for k in ("trials", "best", "trial", "verdict_holds")] == [1, 0.7, 0, False]
    loaded = budget.at_equal(TRIALS, TEACHERS, "compute", with_teacher=True).set_index("arm")
    assert loaded.loc["logit", "trials"] == 0
    assert loaded["best"].isna().to_dict()["logit"]
    assert not loaded.loc["logit", "verdict_holds"]


def test_costs_with_the_teachers(synthetic: Write) -> None:
    sweep = load.sweep(synthetic())
    costs = budget.costs(sweep).set_index("arm")
    assert costs["teacher"].to_dict() == {"direct": 0.0, "homogeneous": 32.0, "heterogeneous": 64.0}
    assert costs.loc["direct", "verify"] == pytest.approx(10 * 7.5)
    assert (costs[["ranking", "refit"]] == 0).all(axis=None)
    assert (costs["total"] == costs[["search", "verify", "teacher"]].sum(axis=1)).all()


def test_costs_with_rankings_and_refitted_teachers(synthetic: Write) -> None:
    folder = synthetic()
    plain = load.sweep(folder)
    winners = plain.trials[plain.trials["winner"]].set_index("arm")
    ranking: dict[str, Any] = {"event": "ranked", "arm": "direct", "seed": 7, "value": 0.9, "seconds": 6.0}
    ranked = [ranking | {"trial": trial} for trial in (0, 2)]
    refit: dict[str, Any] = {"event": "refit", "name": "resnet8", "digest": "r", "family": "resnet", "parameters": 1,
             "val_accuracy": 0.9, "epochs": 20, "seconds": 31.0, "split": "all", "bank_seconds": 5.0}  # fmt: skip
    with (folder / "journal.jsonl").open("a") as file:
        file.writelines(json.dumps({"time": 1.0, **event}) + "\n" for event in (*ranked, ranked[0], refit))
    sweep = load.sweep(folder)
    costs = budget.costs(sweep).set_index("arm")
    assert costs["ranking"].to_dict() == {"direct": 12.0, "homogeneous": 0.0, "heterogeneous": 0.0}
    assert winners.loc["homogeneous", "teacher"] == "resnet8"
    assert costs["refit"].to_dict() == {"direct": 0.0, "homogeneous": 36.0, "heterogeneous": 0.0}
    before, after = (report.results(one)["arms"] for one in (plain, sweep))
    assert after["direct"]["cpu_s"] - before["direct"]["cpu_s"] == pytest.approx(12.0)
    assert after["homogeneous"]["teacher_s"] - before["homogeneous"]["teacher_s"] == pytest.approx(36.0)
    assert "68 s for homogeneous" in " ".join(findings(sweep, compare.verdicts(sweep.verified)))


def test_expected_best_against_every_subset() -> None:
    values = np.array([0.3, 0.9, 0.1, 0.5, 0.7])
    curve = budget.expected_best(values)
    for n, expected in zip(curve["n"], curve["expected"], strict=True):
        assert expected == pytest.approx(np.mean([max(chosen) for chosen in combinations(values, n)]))
    assert curve["low"].tolist()[-1] == curve["high"].tolist()[-1] == 0.9


def test_expected_best_band_holds_its_share_of_searches() -> None:
    values = np.random.default_rng(0).normal(size=200)
    curve = budget.expected_best(values, at=[10], band=0.8).iloc[0]
    rng = np.random.default_rng(1)
    best = np.array([rng.choice(values, 10, replace=False).max() for _ in range(4000)])
    assert np.mean((curve["low"] <= best) & (best <= curve["high"])) == pytest.approx(0.8, abs=0.03)


def test_expected_best_of_ten_thousand_stays_finite() -> None:
    curve = budget.expected_best(np.linspace(0, 1, 10_000), at=[1, 100, 10_000])
    assert curve["expected"].tolist() == pytest.approx([0.5, 100 / 101, 1.0], abs=1e-3)


@pytest.mark.parametrize(("state", "feasible"), [("failed", True), ("stopped", True), ("finished", False)])
def test_a_trial_that_is_not_eligible_counts_as_the_worst(state: str, feasible: bool) -> None:
    other = trial("direct", 3, 0.99, 1, state=state, feasible=feasible)
    curves = budget.expected_best_by_arm(pd.concat([TRIALS, pd.DataFrame([other])], ignore_index=True))
    direct = curves[curves["arm"] == "direct"]
    assert direct["n"].tolist() == [1, 2, 3, 4]
    assert direct["expected"].tolist()[0] == pytest.approx((0.5 + 0.5 + 0.6 + 0.5) / 4)
    assert direct["expected"].tolist()[-1] == 0.6


def test_an_infeasible_trial_is_no_best_so_far() -> None:
    trials = pd.concat([TRIALS, pd.DataFrame([trial("direct", 3, 0.99, 1, feasible=False)])], ignore_index=True)
    path = budget.progress(trials, TEACHERS)
    assert path[path["arm"] == "direct"]["best"].tolist() == [0.5, 0.5, 0.6, 0.6]
    for by in ("trials", "compute"):
        rows = budget.at_equal(trials, TEACHERS, by).set_index("arm")
        assert rows.loc["direct", "best"] == 0.6
        assert rows.loc["direct", "verdict_holds"]
