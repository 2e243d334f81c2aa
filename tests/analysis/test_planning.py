"""The planner's power against simulated sweeps, components of variance and the luck of one search against a truth."""

import numpy as np
import pandas as pd
import pytest

from analysis import compare
from analysis.components import components
from analysis.luck import another_search, distribution
from analysis.planning import Variances, cheapest, detectable, power, searches_for, upper
from tests.support.simulated_searches import SEED_SD, searches


@pytest.mark.parametrize(("ratio", "gain", "seeds"), [
    (1.0, 0.02, 2), pytest.param(2.0, 0.03, 1, marks=pytest.mark.slow),
    pytest.param(0.0, 0.01, 4, marks=pytest.mark.slow),
])  # fmt: skip
def test_power_is_that_of_simulated_sweeps(ratio: float, gain: float, seeds: int) -> None:
    variance = Variances((ratio * SEED_SD) ** 2, SEED_SD**2).of_difference(seeds)
    replicates = searches_for(gain, variance, comparisons=3)
    assert replicates is not None
    arms = {"direct": 0.0, "logit": gain, "feature": 0.0, "shuffled": 0.0}
    table = searches(1000, replicates, seeds, ratio * SEED_SD, arms).assign(look=1)
    verdicts = compare.verdicts(table, [("logit", "direct"), ("feature", "direct"), ("shuffled", "direct")])
    found = (verdicts.loc[verdicts["a"] == "logit", "verdict"] == "better").mean()
    assert power(gain, variance, replicates, comparisons=3) == pytest.approx(found, abs=0.05)
    assert found >= 0.75


def test_power_of_the_usual_arms_is_at_least_the_planned_one() -> None:
    variance = Variances(SEED_SD**2, SEED_SD**2).of_difference(2)
    replicates = searches_for(0.015, variance, comparisons=3)
    assert replicates is not None
    gains = {"direct": 0.0, "homogeneous": 0.0, "heterogeneous": 0.015}
    verdicts = compare.verdicts(searches(500, replicates, 2, SEED_SD, gains).assign(look=1))
    found = (verdicts.loc[verdicts["a"] == "heterogeneous", "verdict"] == "better").mean()
    planned = power(0.015, variance, replicates, comparisons=3)
    assert planned - 0.05 < found < planned + 0.1


def test_searches_are_the_fewest() -> None:
    variance = Variances(1e-4, 1e-4).of_difference(3)
    for difference in (0.005, 0.01, 0.05):
        needed = searches_for(difference, variance, comparisons=2)
        assert needed is not None
        assert power(difference, variance, needed, 2) >= 0.8
        assert needed == 2 or power(difference, variance, needed - 1, 2) < 0.8
    assert searches_for(1e-6, variance) is None
    assert power(detectable(variance, 7), variance, 7) == pytest.approx(0.8)


def test_the_cheapest_allocation_is_the_cheapest_of_all() -> None:
    variances = Variances(2e-5, 1e-4)
    found = cheapest(0.01, variances, search_cost=24, seed_cost=1, comparisons=3)
    assert found is not None
    costs = {}
    for seeds in range(1, 30):
        needed = searches_for(0.01, variances.of_difference(seeds), 3)
        assert needed is not None
        costs[needed, seeds] = needed * (24 + seeds)
    assert found.cost == min(costs.values()) == costs[found.searches, found.seeds]
    dear = cheapest(0.01, variances, search_cost=1, seed_cost=1, comparisons=3)
    assert dear is not None
    assert dear.seeds < found.seeds  # the cheaper a search, the fewer seeds it is worth


def test_upper_limit_is_above_the_variance_in_four_of_five_pilots() -> None:
    pilots = np.random.default_rng(0).standard_normal((20_000, 4)).var(1, ddof=1)
    assert np.mean(pilots * upper(1.0, 3) >= 1) == pytest.approx(0.8, abs=0.01)


def test_components_are_those_of_the_truth() -> None:
    table = searches(60, 10, seeds=3, search_sd=0.02, shared_sd=0.03)
    found = components(table)
    means = (found["sd"] ** 2).groupby(found["component"]).mean() ** 0.5
    assert means["seed"] == pytest.approx(SEED_SD, rel=0.05)
    assert means["search"] == pytest.approx(0.02, rel=0.1)
    assert means["replicate"] == pytest.approx(0.03, rel=0.15)
    assert found.groupby("question")["share"].sum().to_numpy() == pytest.approx(1.0)
    search = found[found["component"] == "search"]
    assert ((search["low"] <= 0.02) & (search["high"] >= 0.02)).mean() >= 0.85
    seed = found[found["component"] == "seed"]
    assert ((seed["low"] <= SEED_SD) & (seed["high"] >= SEED_SD)).mean() >= 0.9


def test_components_of_one_search_are_the_seeds() -> None:
    found = components(searches(1, 1, seeds=5))
    assert found["component"].tolist() == ["seed"]
    assert components(searches(1, 3, seeds=1))["component"].tolist() == ["replicate"]


def trials(values: dict[str, list[float]], eligible: bool = True) -> pd.DataFrame:
    rows = [{"arm": arm, "state": "finished", "eligible": eligible, "value": value}
            for arm, found in values.items() for value in found]  # fmt: skip
    return pd.DataFrame(rows)


def test_another_search_is_drawn_from_the_trials_of_this_one() -> None:
    values = np.array([0.9, 0.5, 0.8, 0.7])
    ordered, chances = distribution(values)
    rng = np.random.default_rng(0)
    best = rng.choice(values, (50_000, 4)).max(1)
    assert chances == pytest.approx([(best == value).mean() for value in ordered], abs=0.01)
    assert chances.sum() == pytest.approx(1.0)
    table = trials({"direct": [0.9, 0.5, 0.8, 0.7], "logit": [0.6, 0.65, 0.95]})
    row = another_search(table, [("logit", "direct")]).iloc[0]
    drawn = rng.choice([0.6, 0.65, 0.95], (50_000, 3)).max(1) - best
    assert row["difference"] == pytest.approx(0.05)
    assert row["sd"] == pytest.approx(drawn.std(), rel=0.02)
    assert row["reversed"] == pytest.approx((drawn < -1e-9).mean(), abs=0.01)
    assert (row["low"], row["high"]) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=1e-9)


def test_arms_without_an_eligible_trial_have_no_luck() -> None:
    assert another_search(trials({"direct": [0.5], "logit": [0.6]}, eligible=False), [("logit", "direct")]).empty
