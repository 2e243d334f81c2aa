"""The simulation of a sweep's driver, compared with a real driver on a small scale."""

from dataclasses import fields, replace

import pytest

from benchmarks.capacity import UPLOAD, Costs, Load, predict, simulate

NOTHING = {field.name: 0.0 for field in fields(Costs)} | {"bandwidth": float("inf")}
FREE = Costs(**NOTHING)


def test_simulate_free_driver() -> None:
    reached = simulate(Load(10, 2, 3.0, 1e6, lambda _trial: 4), FREE)
    assert reached.seconds == 60.0
    assert reached.slots == 1.0
    assert reached.bottleneck == "none"


def test_simulate_busy_driver_is_the_bottleneck() -> None:
    costs = replace(FREE, ask=1, ask_per_trial=3, report=0.5, finish=2)
    reached = simulate(Load(4, 100, 0.0, 0.0, lambda _trial: 2), costs)
    assert reached.seconds == pytest.approx(4 * (1 + 2 * 0.5 + 2) + (0 + 1 + 2 + 3) * 3 / 3)
    assert reached.driver == pytest.approx(1.0)
    assert reached.bottleneck == "driver"


def test_simulate_counts_rays_own_loop() -> None:
    costs = replace(FREE, tune_trial=2, tune_result=0.5)
    assert simulate(Load(4, 100, 0.0, 0.0, lambda _trial: 3), costs).seconds == pytest.approx(4 * (2 + 3 * 0.5))


def test_simulate_waits_for_checkpoints_at_rungs_and_ends_only() -> None:
    """One trial of 10 epochs of 10 s, a checkpoint of 4 s; every 30 s one is written beside the training."""
    load = Load(1, 1, 10.0, 4.0, lambda _trial: 10, (5,))
    costs = replace(FREE, bandwidth=1.0, checkpoint_every=30.0)
    found = simulate(load, costs)
    assert found.seconds == 100 + 2 * 4
    assert found.store == pytest.approx(5 * 4 / found.seconds)
    assert simulate(load, replace(costs, checkpoint_every=0.0)).seconds == 100 + 10 * 4
    assert simulate(load, replace(costs, request=0.1)).seconds == pytest.approx(100 + 2 * (4 + UPLOAD * 0.1))


@pytest.mark.slow
def test_predict_is_near_the_real_driver() -> None:
    seconds = predict(200)
    assert seconds["simulated"] == pytest.approx(seconds["real"], rel=0.5)
