"""The front against a double loop, the hypervolume against a grid and by hand."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis import frontier, load

Write = Callable[..., Path]

POINTS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=12)


def dominated(points: list[tuple[int, int]], k: int) -> bool:
    x, y = points[k]
    return any(a <= x and b >= y and (a < x or b > y) for a, b in points)


@given(POINTS)
def test_front_against_a_double_loop(points: list[tuple[int, int]]) -> None:
    cost, score = np.array(points, dtype=float).T
    assert frontier.front(cost, score).tolist() == [not dominated(points, k) for k in range(len(points))]


@given(POINTS)
def test_hypervolume_against_counting_cells(points: list[tuple[int, int]]) -> None:
    cost, score = np.array(points, dtype=float).T
    cells = sum(any(a <= x and b >= y + 1 for a, b in points) for x in range(5) for y in range(1, 6))
    assert frontier.hypervolume(cost, score, (5.0, 1.0)) == pytest.approx(cells)


def test_infeasible_trials_are_not_on_the_front(synthetic: Write) -> None:
    sweep = load.sweep(synthetic(trials=24, constraints={"spikes/rate": 0.2}))
    points = frontier.points(sweep.trials, "spikes/rate")
    assert len(points) == sweep.trials["eligible"].sum()
    assert points["cost"].max() <= 0.2


def test_unknown_values_are_never_on_the_front() -> None:
    assert frontier.front(np.array([1.0, np.nan, 2.0]), np.array([np.nan, 1.0, 0.5])).tolist() == [False, False, True]


def test_hypervolume_by_hand() -> None:
    assert frontier.hypervolume(np.array([1.0, 2.0]), np.array([0.5, 0.8]), (4.0, 0.0)) == pytest.approx(
        3 * 0.5 + 2 * 0.3
    )


def test_points_and_hypervolumes_of_a_sweep(synthetic: Write) -> None:
    sweep = load.sweep(synthetic(trials=24))
    points = frontier.points(sweep.trials)
    assert len(points) == (sweep.trials["state"] == "finished").sum()
    assert points.loc[points["front"], "arm_front"].all()
    assert points["winner"].sum() == 3
    volumes = frontier.hypervolumes(points)
    assert volumes["on_front"].sum() == points["front"].sum()
    assert volumes["hypervolume"].between(0, 1).all()
    assert len(frontier.points(sweep.trials.drop(columns=["energy/nj"]), "energy/nj")) == 0
