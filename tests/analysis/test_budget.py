"""Costs, progress, equal budgets, and the expected best of n, by hand and against a loop."""

import json
from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from analysis import budget, compare, load, report
from analysis.findings import findings


def trial(arm, number, value, seconds, state="finished", teacher=None, winner=False):
    return {"sweep": "s", "arm": arm, "trial": number, "state": state, "value": value, "seconds": seconds,
            "ended": float(number), "teacher": teacher, "winner": winner}  # fmt: skip


TRIALS = pd.DataFrame([
    trial("direct", 0, 0.5, 10), trial("direct", 1, 0.9, 10, state="stopped"), trial("direct", 2, 0.6, 10, winner=True),
    trial("logit", 0, 0.7, 20, teacher="vgg8"), trial("logit", 1, 0.65, 20, teacher="vgg8"),
    trial("logit", 2, 0.8, 20, teacher="vgg8", winner=True),
    trial("logit", 3, np.nan, 5, state="running", teacher="vgg8"),
])  # fmt: skip
TEACHERS = pd.DataFrame([{"sweep": "s", "name": "vgg8", "seconds": 12.0, "bank_seconds": 3.0, "again": False}])


def test_progress_counts_finished_trials_in_the_order_of_their_end():
    path = budget.progress(TRIALS, TEACHERS)
    direct = path[path["arm"] == "direct"]
    assert direct["best"].tolist() == [0.5, 0.5, 0.6]
    assert direct["compute"].tolist() == [10, 20, 30]
    assert path[path["arm"] == "logit"]["order"].tolist() == [1, 2, 3]
    dear = budget.progress(TRIALS, TEACHERS, with_teacher=True)
    assert dear[dear["arm"] == "logit"]["compute"].tolist() == [35, 55, 75]
    assert dear[dear["arm"] == "direct"]["compute"].tolist() == [10, 20, 30]


def test_equal_trials_and_equal_compute():
    rows = budget.at_equal(TRIALS, TEACHERS, "trials").set_index("arm")
    assert rows["holds"].all()
    rows = budget.at_equal(TRIALS, TEACHERS, "compute").set_index("arm")
    assert rows.loc["direct", ["budget", "trials", "best", "holds"]].tolist() == [30, 3, 0.6, True]
    assert rows.loc["logit", ["trials", "best", "trial", "holds"]].tolist() == [1, 0.7, 0, False]
    dear = budget.at_equal(TRIALS, TEACHERS, "compute", with_teacher=True).set_index("arm")
    assert dear.loc["logit", "trials"] == 0
    assert np.isnan(dear.loc["logit", "best"])
    assert not dear.loc["logit", "holds"]


def test_costs_with_the_teachers(synthetic):
    sweep = load.sweep(synthetic())
    costs = budget.costs(sweep).set_index("arm")
    assert costs["teacher"].to_dict() == {"direct": 0.0, "homogeneous": 32.0, "heterogeneous": 64.0}
    assert costs.loc["direct", "verify"] == pytest.approx(10 * 7.5)
    assert (costs[["ranking", "refit"]] == 0).all(axis=None)
    assert (costs["total"] == costs[["search", "verify", "teacher"]].sum(axis=1)).all()


def test_rankings_and_teachers_fitted_anew_are_counted(synthetic):
    folder = synthetic()
    plain = load.sweep(folder)
    winners = plain.trials[plain.trials["winner"]].set_index("arm")
    ranked = [{"event": "ranked", "arm": "direct", "trial": t, "seed": 7, "value": 0.9, "seconds": 6.0} for t in (0, 2)]
    refit = {"event": "refit", "name": "resnet8", "digest": "r", "family": "resnet", "parameters": 1,
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
    told = " ".join(findings(sweep, compare.verdicts(sweep.verified)))
    assert "68 s for homogeneous" in told


def test_expected_best_against_every_subset():
    values = np.array([0.3, 0.9, 0.1, 0.5, 0.7])
    curve = budget.expected_best(values)
    for n, expected in zip(curve["n"], curve["expected"], strict=True):
        assert expected == pytest.approx(np.mean([max(chosen) for chosen in combinations(values, n)]))
    assert curve["low"].tolist()[-1] == curve["high"].tolist()[-1] == 0.9


def test_expected_best_band_holds_its_share_of_searches():
    values = np.random.default_rng(0).normal(size=200)
    curve = budget.expected_best(values, at=[10], band=0.8).iloc[0]
    rng = np.random.default_rng(1)
    best = np.array([rng.choice(values, 10, replace=False).max() for _ in range(4000)])
    assert np.mean((curve["low"] <= best) & (best <= curve["high"])) == pytest.approx(0.8, abs=0.03)


def test_expected_best_of_ten_thousand_stays_finite():
    curve = budget.expected_best(np.linspace(0, 1, 10_000), at=[1, 100, 10_000])
    assert curve["expected"].tolist() == pytest.approx([0.5, 100 / 101, 1.0], abs=1e-3)


def test_a_failed_trial_counts_as_the_worst():
    failed = pd.concat([TRIALS, pd.DataFrame([trial("direct", 3, 0.99, 1, state="failed")])], ignore_index=True)
    curves = budget.expected_best_by_arm(failed)
    direct = curves[curves["arm"] == "direct"]
    assert direct["n"].tolist() == [1, 2, 3, 4]
    assert direct["expected"].iloc[0] == pytest.approx((0.5 + 0.9 + 0.6 + 0.5) / 4)
