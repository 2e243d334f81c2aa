"""Each statistic against a value by hand, a slow readable reference, or a simulated truth."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from analysis.statistics import blocked_interval, far_from_rest, holm, iqm, prob_improvement, sign_flip, t_interval

SIX = np.array([0.4, 1.2, -0.3, 0.8, 0.5, 0.6])


def test_interval_of_six_differences_by_hand() -> None:
    mean, error = 3.2 / 6, np.sqrt(((SIX - 3.2 / 6) ** 2).sum() / 5 / 6)
    interval = t_interval(SIX)
    assert interval.low == pytest.approx(mean - 2.5705818 * error)
    assert interval.high == pytest.approx(mean + 2.5705818 * error)


def test_interval_without_spread_is_a_point_and_of_one_value_infinite() -> None:
    assert np.array_equal(t_interval([0.5, 0.5, 0.5]), [0.5, 0.5])
    assert np.array_equal(t_interval([0.5]), [-np.inf, np.inf])
    assert tuple(blocked_interval([np.full(3, 0.5), np.full(4, 0.7)])) == pytest.approx((0.6, 0.6))


@pytest.mark.parametrize("pairs", [6, 10])
@pytest.mark.parametrize("shape", ["normal", "skewed"])
def test_interval_covers_the_true_mean_difference(pairs: int, shape: str) -> None:
    rng = np.random.default_rng(1)
    draw = rng.standard_normal if shape == "normal" else lambda size: rng.gamma(4.0, size=size) - 4.0
    truth = 0.7
    differences = truth + draw((20_000, pairs)) - draw((20_000, pairs))
    low, high = t_interval(differences)
    assert 0.92 <= np.mean((low <= truth) & (truth <= high)) <= 0.98


def test_blocked_interval_covers_and_is_the_plain_one_for_one_block() -> None:
    assert blocked_interval([SIX]) == t_interval(SIX)
    rng = np.random.default_rng(2)
    hits = 0
    for _ in range(2000):
        blocks = [rng.normal(1.0, 0.5, 6), rng.normal(2.0, 3.0, 10), rng.normal(0.0, 1.0, 6)]
        low, high = blocked_interval(blocks)
        hits += bool(low <= 1.0 <= high)
    assert 0.92 <= hits / 2000 <= 0.98


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
