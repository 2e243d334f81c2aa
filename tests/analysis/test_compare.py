"""Verdicts: sign, wording and pairing by hand; error rates on simulated sweeps."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis import compare
from analysis.arms import comparisons
from analysis.statistics import Floats
from supersnn.errors import UserError

ARMS = ("direct", "homogeneous", "heterogeneous")


def results(scores: Mapping[str, Sequence[float] | Floats], sweep: str = "s", **columns: object) -> pd.DataFrame:
    """Return a verified table of arm → scores, one per seed."""
    rows = [{"sweep": sweep, "arm": arm, "seed": seed, "test": value, "val": value, "search_value": value, **columns}
            for arm, values in scores.items() for seed, value in enumerate(values)]  # fmt: skip
    return pd.DataFrame(rows)


def test_a_verdict_by_hand() -> None:
    a, b = [0.95, 0.96, 0.97, 0.96, 0.98, 0.95], [0.94, 0.94, 0.95, 0.95, 0.96, 0.93]
    row = compare.verdicts(results({"direct": b, "logit": a})).iloc[0]
    assert (row["a"], row["b"], row["n"]) == ("logit", "direct", 6)
    assert row["difference"] == pytest.approx(0.1 / 6)
    assert row["p_flip"] == row["p_floor"] == 2 / 64
    assert row["p"] == row["p_raw"] == pytest.approx(stats.ttest_rel(a, b).pvalue)
    assert row["low"] > 0
    assert (row["unit"], row["seeds"], row["look"]) == ("seed", 6, 1)
    assert row["verdict"] == "better"
    assert row["prob_improvement"] == pytest.approx(np.mean([(x > y) + 0.5 * (x == y) for x in a for y in b]))


def test_comparisons_begin_with_the_question_then_each_arm_with_the_baseline() -> None:
    assert comparisons(["direct", "homogeneous", "shuffled", "heterogeneous"]) == [
        ("heterogeneous", "homogeneous"),
        ("homogeneous", "direct"),
        ("shuffled", "direct"),
        ("heterogeneous", "direct"),
    ]
    assert comparisons(["homogeneous"]) == []


def test_pairing_is_by_seed_not_by_position() -> None:
    table = results({"direct": [0.1, 0.2, 0.3], "logit": [0.2, 0.3, 0.4]})
    shuffled = table.sample(frac=1.0, random_state=0)
    assert compare.verdicts(shuffled).equals(compare.verdicts(table))
    assert compare.verdicts(table).iloc[0]["sd"] == pytest.approx(0.0, abs=1e-12)


def test_equal_differences_have_the_spread_of_a_test_image_where_it_is_known() -> None:
    row = compare.verdicts(results({"direct": [0.5] * 8, "logit": [0.5] * 8})).iloc[0]
    assert (row["difference"], row["low"], row["high"], row["p"]) == (0, -np.inf, np.inf, 1)
    assert row["verdict"] == "too few seeds"
    shifted = compare.verdicts(results({"direct": [0.5] * 8, "logit": [0.75] * 8}, images=1000.0)).iloc[0]
    assert shifted["se"] == pytest.approx(0.001 / np.sqrt(8))
    assert shifted["verdict"] == "better"
    assert shifted["low"] < 0.25 < shifted["high"]


def test_equivalence_follows_the_margin() -> None:
    rng = np.random.default_rng(0)
    table = results({"direct": 0.9 + rng.normal(0, 1e-4, 10), "logit": 0.9005 + rng.normal(0, 1e-4, 10)})
    assert compare.verdicts(table).iloc[0]["equivalent"]
    assert not compare.verdicts(table, margin=0.0004).iloc[0]["equivalent"]


def test_equivalence_needs_five_units_and_a_spread_of_a_test_image() -> None:
    for pairs, word in ((4, "too few seeds"), (6, "equivalent"), (8, "equivalent")):
        scores = {"direct": [0.5] * pairs, "logit": ([0.4995, 0.5005] * pairs)[:pairs]}
        assert compare.verdicts(results(scores)).iloc[0]["verdict"] == word
    flat = results({"direct": [0.5] * 8, "logit": [0.5] * 8}, images=10_000.0)
    assert compare.verdicts(flat).iloc[0]["verdict"] == "too few seeds"
    spread = {"direct": [0.5] * 8, "logit": [0.499, 0.501] * 4}
    for images, word in ((1000.0, "equivalent"), (800.0, "too few seeds"), (100.0, "no difference found")):
        assert compare.verdicts(results(spread, images=images)).iloc[0]["verdict"] == word


def test_a_seed_far_from_the_rest_and_collapsed_differences_are_marked() -> None:
    rng = np.random.default_rng(0)
    scores = {"direct": 0.9 + rng.normal(0, 0.002, 10), "logit": 0.92 + rng.normal(0, 0.002, 10)}
    usual = compare.verdicts(results(scores)).iloc[0]
    assert (usual["far"], usual["collapsed"]) == (None, False)
    scores["logit"][7] = 0.1
    row = compare.verdicts(results(scores)).iloc[0]
    assert row["far"] == "7"
    assert row["without_far"] == pytest.approx(np.delete(scores["logit"] - scores["direct"], 7).mean())
    assert compare.uneven(row["difference"], row["iqm"], row["se"]) is False  # one seed also makes the error large
    assert compare.verdicts(results({"direct": [0.5] * 3, "logit": [0.75] * 3})).iloc[0]["collapsed"]
    assert compare.uneven(0.0, 0.02, 0.01)
    assert not compare.uneven(0.0, 0.02, np.nan)


def test_too_few_seeds_say_so() -> None:
    alone = compare.verdicts(results({"direct": [0.1], "logit": [0.3]})).iloc[0]
    assert (alone["low"], alone["high"], alone["verdict"]) == (-np.inf, np.inf, "too few seeds")
    assert alone["p"] == 1


def test_seeds_that_one_side_lacks_are_counted_and_arms_without_pairs_named() -> None:
    table = results({"direct": [0.1, 0.2, 0.3], "logit": [0.2, 0.3, 0.4]})
    assert compare.verdicts(table.drop(index=0)).iloc[0]["unpaired"] == 1
    apart = table[(table["arm"] == "direct") ^ (table["seed"] > 0)]
    row = compare.verdicts(apart).iloc[0]
    assert (row["n"], row["verdict"]) == (0, "no pairs")
    with pytest.raises(UserError, match="'feature' has no verified results; known: direct, logit"):
        compare.verdicts(table, [("feature", "direct")])


def test_only_winners_count() -> None:
    table = results({"direct": [0.1, 0.2, 0.3], "logit": [0.2, 0.3, 0.4]}, winner=True)
    loser = results({"logit": [9.0, 9.0, 9.0]}, winner=False)
    assert compare.verdicts(pd.concat([table, loser])).equals(compare.verdicts(table))


def test_arms_report_their_shrinkage() -> None:
    table = results({"direct": [0.90, 0.92]}).assign(search_value=0.95)
    row = compare.arms(table).iloc[0]
    assert row["shrinkage"] == pytest.approx(0.04)
    assert row["mean"] == pytest.approx(0.91)


def simulated(
    gains: Mapping[str, float], seeds: int = 10, noise: float = 0.006, sweeps: int = 1000, outlier: float = 0.0,
    seed: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """Return the verdicts of simulated sweeps with one search an arm as one table with a column `draw`."""
    rng = np.random.default_rng(seed)
    shape = (sweeps, len(gains), seeds)
    scores = 0.9 + np.array(list(gains.values()))[:, None] + rng.normal(0, noise, (sweeps, 1, seeds))
    scores = scores + rng.normal(0, noise, shape)
    scores[np.arange(sweeps), list(gains).index("heterogeneous"), rng.integers(seeds, size=sweeps)] += outlier
    draw, arm, number = np.indices(shape).reshape(3, -1)
    table = {"question": draw.astype(str), "arm": np.array(list(gains))[arm], "seed": number, "test": scores.ravel()}
    verdicts = compare.verdicts(pd.DataFrame(table))
    return verdicts.assign(draw=np.repeat(np.arange(sweeps), len(verdicts) // sweeps))


def power(gain: float, noise: float, seeds: int) -> float:
    """Return the power of the paired t test at 5 %, two-sided, from the noncentral t distribution."""
    shift, edge = gain / (np.sqrt(2) * noise) * np.sqrt(seeds), stats.t.ppf(0.975, seeds - 1)
    return float(stats.nct.sf(edge, seeds - 1, shift) + stats.nct.cdf(-edge, seeds - 1, shift))


def test_a_real_gain_of_a_point_is_seen() -> None:
    noise = 0.0046
    assert power(0.01, noise, 10) == pytest.approx(0.99, abs=0.004)
    table = simulated(dict(zip(ARMS, (0.0, 0.0, 0.01), strict=True)), noise=noise)
    real = table[table["a"] == "heterogeneous"]
    for _, rows in real.groupby("b"):
        assert (rows["low"] > 0).mean() >= 0.95
        assert (rows["verdict"] == "better").mean() >= 0.95
        assert (rows["verdict"] == "worse").sum() == 0


def test_no_gain_raises_few_false_alarms() -> None:
    table = simulated(dict.fromkeys(ARMS, 0.0))
    for _, rows in table.groupby(["a", "b"]):
        assert ((rows["low"] > 0) | (rows["high"] < 0)).mean() <= 0.07
    alarms = table["verdict"].isin(["better", "worse"]).groupby(table["draw"]).any()
    assert alarms.mean() <= 0.07


def test_a_lucky_outlier_is_no_gain() -> None:
    table = simulated(dict.fromkeys(ARMS, 0.0), outlier=0.05)
    rows = table[table["a"] == "heterogeneous"]
    assert (rows["low"] > 0).mean() <= 0.07
    assert (rows["verdict"] == "better").mean() <= 0.07
