"""Each statistic against a value by hand, a slow readable reference, or a simulated truth."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from analysis.statistics import (
    far_from_rest,
    holm,
    image_error,
    iqm,
    prob_improvement,
    prob_interval,
    sign_flip,
    t_interval,
    t_test,
)

SIX = np.array([0.4, 1.2, -0.3, 0.8, 0.5, 0.6])


def test_interval_of_six_differences_by_hand() -> None:
    mean, error = 3.2 / 6, np.sqrt(((SIX - 3.2 / 6) ** 2).sum() / 5 / 6)
    interval = t_interval(SIX)
    assert interval.low == pytest.approx(mean - 2.5705818 * error)
    assert interval.high == pytest.approx(mean + 2.5705818 * error)


def test_interval_without_spread_is_a_point_and_of_one_value_infinite() -> None:
    assert np.array_equal(t_interval([0.5, 0.5, 0.5]), [0.5, 0.5])
    assert np.array_equal(t_interval([0.5]), [-np.inf, np.inf])


@pytest.mark.parametrize("pairs", [6, 10])
@pytest.mark.parametrize("shape", ["normal", "skewed"])
def test_interval_covers_the_true_mean_difference(pairs: int, shape: str) -> None:
    rng = np.random.default_rng(1)
    draw = rng.standard_normal if shape == "normal" else lambda size: rng.gamma(4.0, size=size) - 4.0
    truth = 0.7
    differences = truth + draw((20_000, pairs)) - draw((20_000, pairs))
    low, high = t_interval(differences)
    assert 0.92 <= np.mean((low <= truth) & (truth <= high)) <= 0.98


def test_t_test_is_scipys_and_agrees_with_its_interval() -> None:
    test = t_test([SIX])
    assert (test.low, test.high) == pytest.approx(t_interval(SIX))
    assert test.p == pytest.approx(stats.ttest_1samp(SIX, 0.0).pvalue)
    edge = t_test([SIX], level=1 - test.p)
    assert edge.low == pytest.approx(0.0, abs=1e-12)
    assert test.at(0.9) == pytest.approx(t_interval(SIX, 0.9))


def test_t_test_without_spread_says_nothing_unless_values_are_rounded() -> None:
    for values in (np.array([0.5]), np.full(4, 0.5)):
        assert t_test([values])[:4] == (0.5, -np.inf, np.inf, 1.0)
        assert np.isinf(t_test([values]).at(0.5)).all()
    rounded = t_test([np.full(4, 0.5)], least=[0.01])
    assert rounded.error == pytest.approx(0.01 / 2)
    assert rounded.p == pytest.approx(2 * stats.t.sf(100, 3))


def test_t_test_of_fixed_strata_covers() -> None:
    rng = np.random.default_rng(2)
    hits = 0
    for _ in range(2000):
        strata = [rng.normal(1.0, 0.5, 3), rng.normal(2.0, 3.0, 7), rng.normal(0.0, 1.0, 5)]
        test = t_test(strata)
        hits += test.low <= 1.0 <= test.high
    assert test.estimate == pytest.approx(np.mean([part.mean() for part in strata]))
    assert 0.93 <= hits / 2000 <= 0.98


def test_t_test_adds_errors_where_some_draws_are_shared_and_variances_where_none_is() -> None:
    rng = np.random.default_rng(4)
    strata = [rng.normal(0, 1, 4), rng.normal(0, 2, 6), rng.normal(0, 1, 5)]
    names = ["abcd", "cdefgh", "vwxyz"]
    test = t_test(strata, draws=names)
    errors = [part.std(ddof=1) / np.sqrt(len(part)) for part in strata]
    assert test.error == pytest.approx(np.hypot(errors[0] + errors[1], errors[2]) / 3)
    assert test.at(0.95) == pytest.approx((test.low, test.high))
    assert t_test(strata[:1], draws=names[:1]) == t_test(strata[:1])
    linked = t_test([strata[0], strata[2], strata[1]], draws=["abcd", "vwxyz", "avcdef"])
    assert linked.error == pytest.approx(sum(errors) / 3)
    same = t_test([strata[0], strata[0][::-1]], draws=["abcd", "dcba"])
    assert same[:4] == pytest.approx(t_test(strata[:1])[:4])


def test_sign_flip_against_every_sign_vector_by_a_loop() -> None:
    observed = abs(SIX.sum())
    extreme = sum(abs(np.dot(signs, SIX)) >= observed - 1e-12 for signs in product((-1, 1), repeat=6))
    test = sign_flip(SIX)
    assert test.p == extreme / 64
    assert test.floor == 2 / 64
    assert test.error == 0


@pytest.mark.parametrize("pairs", [5, 6, 10])
def test_sign_flip_reaches_its_floor_where_all_differences_agree(pairs: int) -> None:
    test = sign_flip(np.arange(1.0, pairs + 1))
    assert test.p == test.floor == 2.0 ** (1 - pairs)


def test_sign_flip_of_equal_arms_is_one() -> None:
    assert sign_flip(np.zeros(10)).p == 1.0
    assert sign_flip([1.0, -1.0]).p == 1.0


def test_sampled_sign_flip_agrees_with_the_exact_one_within_its_error() -> None:
    x = np.random.default_rng(3).normal(0.3, 1.0, 18)
    signs = 1 - 2.0 * ((np.arange(2**18)[:, None] >> np.arange(18)) & 1)
    exact = np.mean(np.abs(signs @ x) >= abs(x.sum()) - 1e-12)
    sampled = sign_flip(x)
    assert sampled.error > 0
    assert abs(sampled.p - exact) < 4 * sampled.error


def test_sign_flip_keeps_its_level_with_an_outlier() -> None:
    rng = np.random.default_rng(4)
    x = rng.standard_normal((4000, 10))
    x[:, 0] += rng.choice([-8.0, 8.0], 4000)
    assert np.mean(sign_flip(x).p <= 0.05) <= 0.06


def test_probability_of_improvement_counts_ties_half() -> None:
    assert prob_improvement([2, 3], [1, 3]) == (1 + 0 + 1 + 0.5) / 4
    assert prob_improvement([1, 1], [1, 1]) == 0.5


@pytest.mark.parametrize("shift", [0.0, 1.0, 2.0])
def test_interval_of_the_probability_of_improvement_covers(shift: float) -> None:
    rng = np.random.default_rng(6)
    truth, hits = stats.norm.cdf(shift / np.sqrt(2)), 0
    for _ in range(800):
        low, high = prob_interval(rng.normal(shift, 1, 7), rng.normal(0, 1, 7))
        hits += low <= truth <= high
    assert 0.92 <= hits / 800 <= 0.985


def test_interval_of_a_certain_improvement_is_not_empty() -> None:
    low, high = prob_interval([2.0, 3.0, 4.0], [0.0, 1.0, 1.5])
    assert (float(low), float(high)) == pytest.approx((0.5, 1.0), abs=0.005)
    assert prob_interval([0.0, 1.0, 1.5], [2.0, 3.0, 4.0]) == pytest.approx((0.0, 1 - low))


def test_error_of_test_images_is_the_binomial_one() -> None:
    assert image_error(0.9, 0.8, 100) == pytest.approx(np.sqrt((0.09 + 0.16) / 100))
    assert np.isnan(image_error(0.9, 0.8, 0))
    rng = np.random.default_rng(7)  # the truth of two networks whose errors are independent
    drawn = (rng.random((4000, 100)) < 0.9).mean(1) - (rng.random((4000, 100)) < 0.8).mean(1)
    assert drawn.std() == pytest.approx(image_error(0.9, 0.8, 100), rel=0.05)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])
    assert holm([]).size == 0


def test_interquartile_mean_by_hand() -> None:
    assert iqm([1, 2, 3, 100]) == 2.5
    assert iqm([0, 1, 2, 3, 100, 101]) == pytest.approx((0.5 * 1 + 2 + 3 + 0.5 * 100) / 3)
    assert iqm(np.arange(8.0)) == pytest.approx(stats.trim_mean(np.arange(8.0), 0.25))
    assert iqm([7.0]) == 7.0


def test_far_from_rest_by_the_published_critical_value() -> None:
    # Grubbs 1969, two-sided at 1 %: 2.482 standard deviations for ten values.
    rest = np.array([-1.0, 1.0] * 4 + [0.0])
    found = []
    for distance in np.linspace(3.0, 6.0, 3001):
        x = np.append(rest, distance)
        if far_from_rest(x) is not None:
            assert far_from_rest(x) == 9
            found.append((x[9] - x.mean()) / x.std(ddof=1))
    assert found[0] == pytest.approx(2.482, abs=2e-3)
    assert far_from_rest([0.0, 0.0, 9.0]) is None
    assert far_from_rest([0.5] * 6) is None


def test_far_from_rest_keeps_its_level() -> None:
    draws = np.random.default_rng(5).standard_normal((3000, 8))
    assert np.mean([far_from_rest(x) is not None for x in draws]) == pytest.approx(0.01, abs=0.006)
