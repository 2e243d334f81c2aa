"""SIGTERM, as `ray job stop`, Slurm, Kubernetes and Docker send it: the sweep closes in order, and continues."""

import random
import signal
import time
from pathlib import Path

import pytest
import yaml

from tests.support import invariants
from tests.support.driver import Driver

SECONDS = 20.0
"""Within which a driver must have ended: Kubernetes kills after 30."""


def terminate(driver: Driver) -> None:
    """Send SIGTERM to a driver at work and assert that it closes in order and in time."""
    began = time.monotonic()
    driver.process.send_signal(signal.SIGTERM)
    assert driver.process.wait(timeout=3 * SECONDS) == 143, driver.output()
    assert time.monotonic() - began < SECONDS
    assert "Traceback" not in driver.output()
    assert "run the same command to continue" in driver.output()


def test_a_terminated_sweep_is_closed_as_interrupted_and_continues(tiny: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    driver = Driver(tiny, store, "--local")
    driver.wait_for_epochs(1)
    terminate(driver)
    assert [event["end"] for event in driver.events("close")] == ["interrupted"]
    Driver(tiny, store, "--local").finish()
    assert [event["end"] for event in driver.events("close")] == ["interrupted", "done"]
    assert not driver.failures()
    invariants.assert_sweep(store, "tiny")


@pytest.mark.chaos
@pytest.mark.timeout(1500)
def test_drivers_terminated_under_ray_at_random_moments(tiny: Path, tmp_path: Path) -> None:
    store, dice, terminated = tmp_path / "store", random.Random(4), 0
    plain = yaml.safe_load(tiny.read_text(encoding="utf-8"))
    trials = 8
    while terminated < 10:
        plain["search"] = {"trials": trials, "scheduler": "asha"}
        tiny.write_text(yaml.safe_dump(plain), encoding="utf-8")
        driver = Driver(tiny, store)
        driver.wait(lambda driver=driver: driver.journal.exists(), seconds=60)  # type: ignore[misc]
        time.sleep(dice.uniform(0.0, 25.0))
        if driver.process.poll() is None:
            terminate(driver)
            assert driver.events("close")[-1]["end"] == "interrupted"
            terminated += 1
        else:
            driver.finish()
            trials += 4
    last = Driver(tiny, store)
    last.finish()
    assert not last.failures()
    invariants.assert_sweep(store, "tiny")
