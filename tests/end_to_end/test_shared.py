"""A sweep whose workers have nothing but an address: afterwards the driver's store is complete."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from analysis import load, report
from supersnn.errors import UserError
from tests.support import invariants
from tests.support.cli import run_json
from tests.support.driver import ON_A_CLUSTER, Driver
from tests.support.object_server import proxied
from tune.description import sweep as sweeps
from tune.object_store import ObjectStore
from tune.store import Store
from tune.terminal.launch import launch


def run(file: Path, store: Store, *changed: str) -> None:
    """Run a sweep without Ray; no trial is stopped; trainings have the address, and a copy of their own."""
    described = sweeps.load(file, ("search.scheduler=none", *changed))
    done = launch(described, store, str(file), local=True)
    report.write_html([load.sweep(done.folder.path)], done.folder.report)


@pytest.mark.slow
def test_a_sweep_moves_to_an_object_store_and_its_results_are_copied_back(
    tiny: Path, tmp_path: Path, s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUPERSNN_SCRATCH", str(tmp_path / "scratch"))
    run(tiny, Store(tmp_path / "store"), "search.trials=1", "verify.seeds=1")
    teachers = {path: path.read_bytes() for path in (tmp_path / "store" / "teachers").glob("*/*")}
    store = Store(tmp_path / "store", s3)
    run(tiny, store)
    assert teachers == {path: path.read_bytes() for path in (tmp_path / "store" / "teachers").glob("*/*")}
    invariants.assert_sweep(store.path, "tiny")
    assert not [name for name, _ in ObjectStore(s3).names("sweeps", recursive=True) if "checkpoint-" in name]
    assert {path.name for path in (tmp_path / "scratch").glob("*/*")} == {"teachers", "banks", "sweeps"}
    assert not [path for path in (tmp_path / "scratch").glob("*/sweeps/**/*") if path.is_file()]

    with pytest.raises(UserError, match="belongs to another store"):
        run(tiny, Store(tmp_path / "other", s3))

    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr("supersnn.teachers._train", None)
    winner = json.loads(store.sweep("tiny").verified.read_text())["arms"]["homogeneous"]["trial"]
    options = ("--trial", f"homogeneous/{1 - winner}", "--to", tmp_path / "export", "--store", store.path)
    assert run_json("export", "tiny", *options)["reproduced"]


def reported(driver: Driver) -> set[tuple[str, int]]:
    """The trials that have reported an epoch."""
    return {(event["arm"], event["trial"]) for event in driver.events("epoch")}


def lose_a_worker(driver: Driver) -> tuple[str, int]:
    """Kill the process of a trial that has reported; return the trial."""
    running = driver.running_trials()
    for event in driver.events("epoch"):
        trial = event["arm"], event["trial"]
        if event.get("place") and trial in running:
            os.kill(int(event["place"]["process"]), signal.SIGKILL)
            return trial
    raise AssertionError("no trial has a process")


CHAOS = [pytest.mark.chaos if mark.name == "slow" else mark for mark in ON_A_CLUSTER]


@pytest.mark.parametrize("seconds", [pytest.param(15.0, marks=ON_A_CLUSTER), pytest.param(60.0, marks=CHAOS)])
def test_a_sweep_goes_on_while_the_object_store_is_away(
    seconds: float,
    config: Path,
    tmp_path: Path,
    cluster: Cluster,
    s3: str,
    s3_server: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Trials that have ended before wait for it alone; the others' epochs are reported meanwhile.

    One trial's process is lost in the outage: the other trial goes on all the same.
    """
    store = tmp_path / "store"
    monkeypatch.setenv("SUPERSNN_SCRATCH", str(tmp_path / "scratch"))
    with proxied(s3_server) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        cluster.add_node(num_cpus=2)
        options = ["--address", cluster.address, "--shared", s3, "--set", "train.epochs=50"]
        options += ["--set", "search.trials=1", "--set", "verify.seeds=1"]
        driver = Driver(config, store, *options)
        driver.wait(lambda: len(driver.running_trials() & reported(driver)) == 2 and len(driver.events("epoch")) >= 4)
        began = time.time()
        proxy.go_down(seconds)
        lost = lose_a_worker(driver)
        driver.wait(lambda: not proxy.down.is_set(), seconds + 300)
        meanwhile = [event for event in driver.events("epoch") if began + 1 < event["time"] < began + seconds]
        driver.finish()
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    assert meanwhile, "no epoch was reported while the store was away"
    (attempt,) = driver.events("attempt")
    assert ((attempt["arm"], attempt["trial"]), attempt["kind"]) == (lost, "worker")
    assert attempt["time"] < began + seconds
    later = [event for event in meanwhile if event["time"] > attempt["time"] + 1]
    assert later, "the driver has waited for the store when it sent the trial again"
    assert driver.failures() == []
    invariants.assert_sweep(store, "tiny")
    assert not [name for name, _ in ObjectStore(s3).names("sweeps", recursive=True) if "checkpoint-" in name]
