"""The simulation of a sweep's driver, and its small end against the real one."""

import pytest

from benchmarks.capacity import Costs, Load, predict, simulate

FREE = Costs(ask=0, ask_per_trial=0, report=0, finish=0, tracked=0, actor=0, start=0, bandwidth=float("inf"))


def test_slots_alone_take_the_epochs_time() -> None:
    reached = simulate(Load(10, 2, 3.0, 1e6, lambda trial: 4), FREE)
    assert reached.seconds == 60.0
    assert reached.slots == 1.0
    assert reached.bottleneck == "none"


def test_a_driver_that_is_always_busy_is_the_limit() -> None:
    costs = Costs(ask=1, ask_per_trial=3, report=0.5, finish=2, tracked=0, actor=0, start=0)
    reached = simulate(Load(4, 100, 0.0, 0.0, lambda trial: 2), costs)
    assert reached.seconds == pytest.approx(4 * (1 + 2 * 0.5 + 2) + (0 + 1 + 2 + 3) * 3 / 3)
    assert reached.driver == pytest.approx(1.0)
    assert reached.bottleneck == "driver"


@pytest.mark.slow
def test_the_real_driver_takes_about_what_is_foretold() -> None:
    found = predict(200)
    assert found["simulated"] == pytest.approx(found["real"], rel=0.5)
