"""A sweep whose trials split their batches into shards, on Ray: one worker is killed, and no process is left over."""

import time
from pathlib import Path

import psutil
import pytest
import yaml

from tests.support import invariants
from tests.support.cli import run_json
from tests.support.driver import Driver, ray_task


@pytest.fixture
def sharded(tiny: Path) -> Path:
    """The tiny sweep with two shards, two trials of one arm."""
    plain = yaml.safe_load(tiny.read_text(encoding="utf-8"))
    plain["arms"] = {"homogeneous": plain["arms"]["homogeneous"]}
    plain["train"] = {"epochs": 15, "shards": 2}
    plain["search"] = {"trials": 2, "scheduler": "none"}
    plain["verify"] = {"seeds": 1}
    tiny.write_text(yaml.safe_dump(plain), encoding="utf-8")
    return tiny


def test_the_plan_states_the_shards(sharded: Path, tmp_path: Path) -> None:
    resources = run_json("sweep", sharded, "--store", tmp_path, "--dry-run")["resources"]
    assert (resources["shards"], resources["cpus"], resources["gpus"]) == (2, 2.0, "auto")


def workers_with_shards(driver: Driver) -> dict[psutil.Process, list[psutil.Process]]:
    """Return the workers that train now, each with the processes of its other shards."""
    workers = {}
    for process in driver.children():
        try:
            if ray_task(process) == "StudentTrial":
                workers[process] = [p for p in process.children() if "--multiprocessing-fork" in p.cmdline()]
        except psutil.Error:
            continue
    return {worker: shards for worker, shards in workers.items() if shards}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_sweep_in_shards_outlives_a_killed_worker(sharded: Path, tmp_path: Path) -> None:
    driver = Driver(sharded, tmp_path / "store")
    try:
        training: dict[psutil.Process, list[psutil.Process]] = {}
        while driver.process.poll() is None and not (
            driver.events("epoch") and (training := workers_with_shards(driver))
        ):
            time.sleep(0.05)
        ((worker, shards),) = training.items()
        worker.kill()
        assert not driver.events("end"), "the trial was over before its worker could be killed"
        assert len(shards) == 1
        _, alive = psutil.wait_procs(shards, timeout=20)
        assert alive == []
        driver.finish(800)
    finally:
        driver.kill()
    invariants.assert_sweep(tmp_path / "store", "tiny")
    assert all(event["end"] == "finished" for event in driver.events("end"))
    assert len(driver.events("epoch")) == 2 * 15
