"""The test on paired images: against its definition by maximum likelihood, and what few images cannot tell."""

import math

import numpy as np
import pytest
from scipy import optimize

from analysis.paired_images import not_worse, score


def slow_score(images: int, gained: int, lost: int, difference: float) -> float:
    """The score statistic, with the share that only the second has right found by search."""
    same = images - gained - lost

    def surprise(share: float) -> float:
        shares = (share, share - difference, 1 - 2 * share + difference)
        counts = (gained, lost, same)
        return -sum(n * math.log(p) for n, p in zip(counts, shares, strict=True) if n)

    low, high = max(0.0, difference) + 1e-12, (1 + difference) / 2 - 1e-12
    share = float(optimize.minimize_scalar(surprise, bounds=(low, high), options={"xatol": 1e-14}).x)
    variance = images * (2 * share - difference - difference**2)
    return (gained - lost - images * difference) / math.sqrt(variance)


@pytest.mark.parametrize(("images", "gained", "lost"), [(500, 9, 10), (10_000, 40, 60), (359, 0, 3), (100, 30, 5)])
@pytest.mark.parametrize("difference", [-0.05, -0.005, 0.01])
def test_the_score_is_that_of_the_maximum_likelihood(images: int, gained: int, lost: int, difference: float) -> None:
    assert score(images, gained, lost, difference) == pytest.approx(
        slow_score(images, gained, lost, difference), abs=1e-4
    )


def test_the_bound_is_where_the_test_turns() -> None:
    found = not_worse(10_000, 40, 60)
    assert found.difference == pytest.approx(-0.002)
    assert not_worse(10_000, 40, 60, margin=-found.low).p == pytest.approx(0.05, abs=1e-6)
    assert found.verdict == "within"
    assert found.p < 0.05


def test_few_images_cannot_tell() -> None:
    """Where no class changes, the margin is established from `least` images on."""
    assert not_worse(538, 0, 0).verdict == "undecided"
    assert not_worse(539, 0, 0).verdict == "within"
    assert not_worse(100, 0, 0).least == 539
    assert not_worse(359, 2, 3).verdict == "undecided"


def test_a_loss_beyond_the_margin_is_said() -> None:
    found = not_worse(10_000, 10, 200)
    assert found.verdict == "worse"
    assert found.p > 0.95
    assert not_worse(50, 0, 50)[:2] == (-1.0, -1.0)


def test_the_error_rate_is_the_level() -> None:
    """At a true loss of exactly the margin, 5 % of the draws are called within it."""
    drawn = np.random.default_rng(0).multinomial(4000, [0.010, 0.015, 0.975], size=2000)
    within = [not_worse(4000, int(gained), int(lost)).verdict == "within" for gained, lost, _ in drawn]
    assert np.mean(within) == pytest.approx(0.05, abs=0.015)
