"""Verdicts on searches: their unit, coverage, false alarms and looks, on simulated sweeps."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis import compare
from analysis.looks import Look, grown, levels
from analysis.units import AtLook, groups, pair, units_at_looks
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
    assert overall["se"] == pytest.approx(rows.loc[["a", "b"], "se"].sum() / 2)  # some draws are those of both
    assert (overall["freedom"], overall["p_floor"]) == (2, 2**-4)


@pytest.mark.parametrize(("replicates", "ratio"), [
    (3, 0.0), (5, 1.0), (10, 4.0), *(
        pytest.param(k, r, marks=pytest.mark.slow) for k in (3, 5, 10) for r in (0.0, 1.0, 2.0, 4.0)
        if (k, r) not in ((3, 0.0), (5, 1.0), (10, 4.0))
    ),
])  # fmt: skip
def test_intervals_cover_and_false_alarms_are_few(replicates: int, ratio: float) -> None:
    table = searches(SWEEPS, replicates, seeds=2, search_sd=ratio * SEED_SD, shared_sd=0.01)
    verdicts = compare.verdicts(table)
    covered = (verdicts["low"] <= 0) & (verdicts["high"] >= 0)
    assert 0.93 <= covered.mean() <= 0.97
    assert alarms(compare.verdicts(table.assign(look=1)), SWEEPS) <= 0.06
    assert ((verdicts["p_raw"] < 0.05) == ~covered).all()


def test_a_replicate_is_one_draw_on_all_data_sets() -> None:
    rng = np.random.default_rng(0)
    parts = [final_runs({"direct": rng.normal(0.5, 0.01, (4, 2)), "logit": rng.normal(0.6, 0.01, (4, 2))},
                        images=1e6).assign(dataset=name) for name in ("a", "b")]  # fmt: skip
    table = pd.concat(parts)
    means = table.groupby(["dataset", "replicate", "arm"])["test"].mean().unstack("arm")
    by_replicate = (means["logit"] - means["direct"]).groupby("replicate").mean()
    overall = compare.verdicts(table).iloc[0]
    assert (overall["p_raw"], overall["freedom"]) == (pytest.approx(stats.ttest_1samp(by_replicate, 0).pvalue), 3)
    assert overall["p_flip"] == overall["p_floor"] == 2**-3
    table["sweep"] = table["dataset"]
    apart = compare.verdicts(table).iloc[0]
    assert apart["freedom"] > 3
    assert compare.verdicts(table.assign(draw=table["replicate"].astype(str))).iloc[0]["p_raw"] == overall["p_raw"]


@pytest.mark.parametrize("same_draws", [False, True])
def test_intervals_over_data_sets_cover(same_draws: bool) -> None:
    table = searches(SWEEPS, replicates=3, seeds=2, search_sd=2 * SEED_SD, datasets=3, same_draws=same_draws,
                     gains=("direct", "heterogeneous"))  # fmt: skip
    verdicts = compare.verdicts(table)
    overall = verdicts[verdicts["dataset"] == "overall"]
    covered = ((overall["low"] <= 0) & (overall["high"] >= 0)).mean()
    assert 0.93 <= covered <= 0.98
    assert alarms(overall, SWEEPS) <= 0.06


@pytest.mark.parametrize(("replicates", "gain"), [(3, 0.05), (5, 0.03), (10, 0.02)])
def test_a_true_difference_is_in_the_interval_and_found(replicates: int, gain: float) -> None:
    table = searches(SWEEPS, replicates, 2, search_sd=SEED_SD, gains={"direct": 0.0, "heterogeneous": gain})
    verdicts = compare.verdicts(table)
    assert 0.93 <= ((verdicts["low"] <= gain) & (verdicts["high"] >= gain)).mean() <= 0.97
    assert (verdicts["verdict"] == "better").mean() > 0.9
    assert (verdicts["verdict"] == "worse").sum() == 0


@pytest.mark.parametrize("looks", [(3, 6, 10), (3, 5, 7, 10), (7, 12), (10, 20, 30), tuple(range(2, 11))])
def test_extending_until_something_is_found_keeps_the_error_rate(looks: tuple[int, ...]) -> None:
    draws = np.random.default_rng(0).standard_normal((60_000, max(looks)))
    counted, uncounted = np.zeros((2, len(draws)), dtype=bool)
    for number, units in enumerate(looks, start=1):
        so_far = draws[:, :units]
        t = so_far.mean(1) / so_far.std(1, ddof=1) * np.sqrt(units)
        p = 2 * stats.t.sf(np.abs(t), units - 1)
        counted |= p < levels(grown(map(Look, looks[:number])), 0.05)[-1]
        uncounted |= p < 0.05
    assert counted.mean() <= 0.056
    assert uncounted.mean() > 0.07


def test_verdicts_count_looks() -> None:
    looks = (3, 6, 10)
    table = searches(100, 10, seeds=1, gains=("direct", "heterogeneous"))
    table = table.assign(look=np.searchsorted(looks, table["replicate"], side="right") + 1)
    for number, units in enumerate(looks, start=1):
        so_far = table[table["replicate"] < units]
        rows = compare.verdicts(so_far)
        assert set(rows["look"]) == {number}
        level = levels(grown(map(Look, looks[:number])), 0.05)[-1]
        assert ((rows["p"] < 0.05) == (rows["p_raw"] < level)).all()
        plain = compare.verdicts(so_far.drop(columns="look"))
        assert plain["p"].tolist() == plain["p_raw"].tolist() == rows["p_raw"].tolist()


@pytest.mark.slow
def test_looks_share_the_error_rate_over_three_comparisons() -> None:
    looks, sweeps = (3, 5, 7, 10), 1000
    table = searches(sweeps, max(looks), seeds=1, search_sd=SEED_SD)
    table = table.assign(look=np.searchsorted(looks, table["replicate"], side="right") + 1)
    seen = np.zeros(sweeps, dtype=bool)
    for units in looks:
        verdicts = compare.verdicts(table[table["replicate"] < units])
        seen |= verdicts["verdict"].isin(["better", "worse"]).to_numpy().reshape(sweeps, -1).any(1)
    assert seen.mean() <= 0.06


def test_levels_of_looks_are_those_of_a_simulation() -> None:
    units, alpha = [3, 5, 10], 0.2
    looks = grown(map(Look, [3, *units]))
    assert [look.units for look in looks] == units
    edges = stats.norm.isf(np.array(levels(looks, alpha)) / 2)
    sums = np.random.default_rng(0).standard_normal((200_000, 10)).cumsum(1)
    z = np.abs(sums[:, [2, 4, 9]]) / np.sqrt(units)
    first = (z > edges).argmax(1)[(z > edges).any(1)]
    spent = np.cumsum(np.bincount(first, minlength=3)) / len(z)
    assert spent == pytest.approx([alpha * (1 - 1 / n) for n in units], abs=0.003)


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


def with_winners(looks: Mapping[str, Sequence[int]], replicates: int, seeds: int) -> pd.DataFrame:
    """Return a table of arm → the look at the final runs of each of its searches' winners, the present one last."""
    rng = np.random.default_rng(2)
    tables = [
        final_runs({arm: rng.normal(0.9, 0.01, (replicates, seeds))}, trial=trial, look=look, winner=look == of_arm[-1])
        for arm, of_arm in looks.items() for trial, look in enumerate(of_arm)
    ]  # fmt: skip
    return pd.concat(tables, ignore_index=True)


@pytest.mark.parametrize("unit", ["search", "seed"])
@pytest.mark.parametrize(("direct", "logit", "multiples"), [
    ((1,), (1,), (1,)), ((1, 2), (1, 2), (1, 2)), ((1,), (1, 2), (1, 2)), ((1, 3), (1, 2), (1, 2, 3)),
    ((1, 2, 3), (1, 3), (1, 2, 3)),
])  # fmt: skip
def test_another_winner_is_a_look_with_more_information(
    unit: str, direct: tuple[int, ...], logit: tuple[int, ...], multiples: tuple[int, ...]
) -> None:
    """Each look has the final runs of the first one once more; scores are those of the present winners."""
    replicates, seeds = (5, 3) if unit == "search" else (1, 6)
    table = with_winners({"direct": direct, "logit": logit}, replicates, seeds)
    row = compare.verdicts(table).iloc[0]
    alone = compare.verdicts(table[table["winner"]].assign(look=1)).iloc[0]
    n = max(replicates, seeds * (unit == "seed"))
    assert (row["unit"], row["n"], row["seeds"], row["look"]) == (unit, n, seeds, len(multiples))
    for column in ("difference", "p_raw", "sd", "se"):
        assert row[column] == alone[column]
    level = levels(grown(Look(n * many) for many in multiples), 0.05)[-1]
    assert row["p"] == pytest.approx(min(1.0, row["p_raw"] * 0.05 / level))
    assert bool(row["high"] > alone["high"]) is (len(multiples) > 1)


def test_looks_before_a_change_of_winner_stay_what_they_were() -> None:
    """Five searches, then more of them, then other winners of some: the verdicts before the change are seen again."""
    table = with_winners({"direct": (1,), "logit": (1,)}, 8, 2)
    table["look"] += table["replicate"] > 4
    extended = pair(groups(table, "test")["", "digits"], "logit", "direct")
    changed = table["arm"].eq("logit") & (table["replicate"] < 3)
    later = table[changed].assign(trial=1, look=3, test=0.9)
    both = pd.concat([table.assign(winner=~changed), later])
    found = pair(groups(both, "test")["", "digits"], "logit", "direct")
    assert {look: found.looks[look] for look in (1, 2)} == dict(extended.looks)
    assert found.looks[3] == AtLook(8, 16 + 3 * 2)
    assert [look.units for look in units_at_looks([found])] == [5, 8, 5 * 22 / 10]


def test_earlier_winners_without_a_present_one_are_no_search() -> None:
    table = with_winners({"direct": (1, 2), "logit": (1, 2)}, 4, 2)
    unfinished = table[~(table["winner"] & table["arm"].eq("logit") & table["replicate"].eq(3))]
    row = compare.verdicts(unfinished).iloc[0]
    assert (row["n"], row["unpaired"], row["look"]) == (3, 1, 2)
    assert not len(compare.verdicts(table[~table["winner"]]))


def test_a_change_of_winner_keeps_the_error_rate() -> None:
    """All searches get other winners again and again, whose scores have nothing to do with the earlier ones'."""
    rng, seen = np.random.default_rng(0), np.zeros(40_000, dtype=bool)
    looks = grown(Look(6.0 * number) for number in range(1, 5))
    for level in levels(looks, 0.05):
        differences = rng.standard_normal((len(seen), 6))
        t = differences.mean(1) / differences.std(1, ddof=1) * np.sqrt(6)
        seen |= 2 * stats.t.sf(np.abs(t), 5) < level
    assert seen.mean() <= 0.06


def test_rounding_to_test_images_raises_no_alarms() -> None:
    table = searches(SWEEPS, 2, seeds=1, gains=("direct", "heterogeneous"))
    table = table.assign(test=(table["test"] * 360).round() / 360, images=360.0)
    verdicts = compare.verdicts(table)
    assert (verdicts["se"] >= 1 / 360 / np.sqrt(2) - 1e-12).all()
    assert alarms(verdicts, SWEEPS) <= 0.06
