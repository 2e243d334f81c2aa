"""Verdicts on searches: their unit, coverage, false alarms and looks, on simulated sweeps."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis import compare
from analysis.looks import grown, levels
from tests.support.simulated_searches import SEED_SD, alarms, searches

SWEEPS = 400


def final_runs(scores: Mapping[str, Any], **columns: object) -> pd.DataFrame:
    """Return a table of arm → replicates → scores by seed."""
    return pd.DataFrame([
        {"sweep": "s", "dataset": "digits", "arm": arm, "replicate": replicate, "seed": seed, "test": score, **columns}
        for arm, replicates in scores.items() for replicate, runs in enumerate(replicates)
        for seed, score in enumerate(runs)
    ])  # fmt: skip


def test_three_searches_that_disagree_find_nothing() -> None:
    differences = (-0.023, 0.052, -0.012)
    tight = np.array([-0.004, 0.004] * 5)
    table = final_runs({"direct": [0.9 + tight] * 3, "heterogeneous": [0.9 + d - tight for d in differences]})
    row = compare.verdicts(table).iloc[0]
    assert (row["unit"], row["n"], row["seeds"], row["verdict"]) == ("search", 3, 10, "no difference found")
    assert (100 * row["low"], 100 * row["high"]) == pytest.approx((-9.5, 10.6), abs=0.05)
    assert row["p_raw"] == row["p"] == pytest.approx(stats.ttest_1samp(differences, 0).pvalue)
    alone = compare.one_search(table)
    assert alone["verdict"].tolist() == ["worse", "better", "worse"]
    assert alone["replicate"].tolist() == [0, 1, 2]


def test_searches_are_paired_by_replicate_and_unfinished_ones_counted() -> None:
    table = final_runs({"direct": [[0.1, 0.2], [0.4], [0.9]], "logit": [[0.3, 0.4], [0.7]]})
    row = compare.verdicts(table).iloc[0]
    assert (row["n"], row["unpaired"], row["seeds"]) == (2, 1, 1)
    assert row["difference"] == pytest.approx((0.2 + 0.3) / 2)
    assert compare.verdicts(table.sample(frac=1.0, random_state=0)).iloc[0]["difference"] == row["difference"]


def test_a_replicate_of_another_sweep_is_another_search() -> None:
    first = final_runs({"direct": [[0.1, 0.2]], "logit": [[0.3, 0.4]]})
    both = pd.concat([first, first.assign(sweep="t", test=first["test"] ** 2)])
    row = compare.verdicts(both).iloc[0]
    assert (row["unit"], row["n"], row["sweeps"]) == ("search", 2, "s, t")


def test_data_sets_are_fixed_in_the_verdict_over_them() -> None:
    rng = np.random.default_rng(0)
    parts = [final_runs({"direct": rng.normal(0.5, 0.01, (k, 2)), "logit": rng.normal(0.6, 0.01, (k, 2))},
                        images=1e6).assign(dataset=name) for name, k in (("a", 3), ("b", 5), ("c", 1))]  # fmt: skip
    rows = compare.verdicts(pd.concat(parts)).set_index("dataset")
    assert rows.index.tolist() == ["overall", "a", "b", "c"]
    assert rows["unit"].tolist() == ["search", "search", "search", "seed"]
    overall = rows.loc["overall"]
    assert (overall["datasets"], overall["n"]) == (2, 8)
    assert overall["difference"] == pytest.approx(rows.loc[["a", "b"], "difference"].mean())
    assert overall["se"] == pytest.approx(np.sqrt((rows.loc[["a", "b"], "se"] ** 2).sum()) / 2)
    assert 2 < overall["freedom"] < 6


@pytest.mark.parametrize(("replicates", "ratio"), [
    (3, 0.0), (5, 1.0), (10, 4.0), *(pytest.param(k, r, marks=pytest.mark.slow) for k in (3, 10) for r in (1.0, 2.0)),
])  # fmt: skip
def test_intervals_cover_and_false_alarms_are_few(replicates: int, ratio: float) -> None:
    table = searches(SWEEPS, replicates, seeds=2, search_sd=ratio * SEED_SD, shared_sd=0.01)
    verdicts = compare.verdicts(table)
    covered = (verdicts["low"] <= 0) & (verdicts["high"] >= 0)
    assert 0.93 <= covered.mean() <= 0.97
    assert alarms(compare.verdicts(table.assign(look=1)), SWEEPS) <= 0.06
    assert ((verdicts["p_raw"] < 0.05) == ~covered).all()


def test_intervals_over_data_sets_cover() -> None:
    table = searches(SWEEPS, replicates=3, seeds=2, search_sd=SEED_SD, datasets=2, gains=("direct", "heterogeneous"))
    verdicts = compare.verdicts(table)
    overall = verdicts[verdicts["dataset"] == "overall"]
    covered = ((overall["low"] <= 0) & (overall["high"] >= 0)).mean()
    assert 0.93 <= covered <= 0.98
    assert alarms(overall, SWEEPS) <= 0.06


def test_a_true_difference_is_in_the_interval_and_found() -> None:
    gain = 0.03
    table = searches(SWEEPS, 5, 2, search_sd=SEED_SD, gains={"direct": 0.0, "heterogeneous": gain})
    verdicts = compare.verdicts(table)
    assert 0.93 <= ((verdicts["low"] <= gain) & (verdicts["high"] >= gain)).mean() <= 0.97
    assert (verdicts["verdict"] == "better").mean() > 0.9
    assert (verdicts["verdict"] == "worse").sum() == 0


def extended(sweeps: int, arms: Sequence[str], looks: Sequence[int]) -> tuple[float, float]:
    """Return the false alarms of sweeps that are extended until something is found, with and without their looks."""
    table = searches(sweeps, max(looks), seeds=1, search_sd=SEED_SD, gains=arms)
    table = table.assign(look=np.searchsorted(looks, table["replicate"], side="right") + 1)
    seen = np.zeros((2, sweeps), dtype=bool)
    for look, replicates in enumerate(looks, start=1):
        so_far = table[table["replicate"] < replicates]
        verdicts = compare.verdicts(so_far)
        assert set(verdicts["look"]) == {look}
        for row, rows in enumerate((verdicts, compare.verdicts(so_far.drop(columns="look")))):
            seen[row] |= rows["verdict"].isin(["better", "worse"]).to_numpy().reshape(sweeps, -1).any(1)
    return float(seen[0].mean()), float(seen[1].mean())


def test_looks_share_the_error_rate() -> None:
    counted, uncounted = extended(SWEEPS, ("direct", "heterogeneous"), (3, 6, 10))
    assert counted <= 0.06
    assert uncounted > 0.08


@pytest.mark.slow
def test_looks_share_the_error_rate_over_three_comparisons() -> None:
    counted, uncounted = extended(1000, ("direct", "homogeneous", "heterogeneous"), (3, 5, 7, 10))
    assert counted <= 0.06
    assert uncounted > 0.08


def test_levels_of_looks_are_those_of_a_simulation() -> None:
    looks, alpha = grown([3, 3, 5, 10]), 0.2
    assert list(looks) == [3, 5, 10]
    edges = stats.norm.isf(np.array(levels(looks, alpha)) / 2)
    sums = np.random.default_rng(0).standard_normal((200_000, 10)).cumsum(1)
    z = np.abs(sums[:, [2, 4, 9]]) / np.sqrt(looks)
    first = (z > edges).argmax(1)[(z > edges).any(1)]
    spent = np.cumsum(np.bincount(first, minlength=3)) / len(z)
    assert spent == pytest.approx([alpha * (1 - 1 / units) for units in looks], abs=0.003)


def test_more_seeds_of_the_same_searches_are_another_look() -> None:
    rng = np.random.default_rng(1)
    table = final_runs({arm: rng.normal(0.9, 0.01, (3, 4)) for arm in ("direct", "logit")})
    once = compare.verdicts(table.assign(look=1)).iloc[0]
    twice = compare.verdicts(table.assign(look=1 + (table["seed"] > 1))).iloc[0]
    assert (once["look"], twice["look"]) == (1, 2)
    assert once["p_raw"] == twice["p_raw"] < once["p"] < twice["p"]
    assert once["p"] == pytest.approx(once["p_raw"] / (1 - 1 / 3))
    unseen = compare.verdicts(table.assign(look=1 + (table["replicate"] > 0))).iloc[0]
    assert unseen["look"] == 1  # one search at the first look, so that nothing could be said about arms


def test_rounding_to_test_images_raises_no_alarms() -> None:
    table = searches(SWEEPS, 2, seeds=1, gains=("direct", "heterogeneous"))
    table = table.assign(test=(table["test"] * 360).round() / 360, images=360.0)
    verdicts = compare.verdicts(table)
    assert (verdicts["se"] >= 1 / 360 / np.sqrt(2) - 1e-12).all()
    assert alarms(verdicts, SWEEPS) <= 0.06
