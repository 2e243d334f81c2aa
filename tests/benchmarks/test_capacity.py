"""The simulation of a sweep's driver, compared with a real driver on a small scale."""

import pytest

from benchmarks.capacity import Costs, Load, predict, simulate

FREE = Costs(ask=0, ask_per_trial=0, report=0, finish=0, tracked=0, actor=0, start=0, bandwidth=float("inf"))


def test_simulate_free_driver() -> None:
    reached = simulate(Load(10, 2, 3.0, 1e6, lambda _trial: 4), FREE)
    assert reached.seconds == 60.0
    assert reached.slots == 1.0
    assert reached.bottleneck == "none"


def test_simulate_busy_driver_is_the_bottleneck() -> None:
    costs = Costs(ask=1, ask_per_trial=3, report=0.5, finish=2, tracked=0, actor=0, start=0)
    reached = simulate(Load(4, 100, 0.0, 0.0, lambda _trial: 2), costs)
    assert reached.seconds == pytest.approx(4 * (1 + 2 * 0.5 + 2) + (0 + 1 + 2 + 3) * 3 / 3)
    assert reached.driver == pytest.approx(1.0)
    assert reached.bottleneck == "driver"


@pytest.mark.slow
def test_predict_is_near_the_real_driver() -> None:
    seconds = predict(200)
    assert seconds["simulated"] == pytest.approx(seconds["real"], rel=0.5)
