"""Sweeps on clusters with a sick node: they end, every arm has its budget, and the node is named and left out."""

import os
import signal
import time
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import pytest
import yaml
from ray.cluster_utils import Cluster

from supersnn import checkpoint
from tests.support import invariants, plugins
from tests.support.cli import run_json
from tests.support.driver import ON_A_CLUSTER, Driver, is_gone
from tune.execution import trial_watch

pytestmark = [*ON_A_CLUSTER, pytest.mark.chaos]

SICK = "SUPERSNN_TEST_SICK"
"""The environment variable of a raylet, and so of its workers, with what is wrong there."""
SLOW = 5.0
"""Times the median from which an epoch is one of the slow node, which is ten times slower."""
AWAY = 60.0
"""Seconds without the head."""
EPOCHS = 3
"""What a trial has trained before its worker is lost: one that begins again is noticed by its first epoch."""
STUDENT = f'''
import os, signal, time
from torch import nn

class Pause(nn.Module):
    """Takes time, on a slow node ten times as much."""
    def forward(self, x):
        time.sleep(2.0 if os.environ.get("{SICK}") == "slow" else 0.2)
        return x

def sickly(layers, shape, classes):
    """A network that trains, or what is wrong on this node."""
    wrong = os.environ.get("{SICK}")
    if wrong == "cuda":
        raise RuntimeError("CUDA error: an illegal memory access was encountered")
    if wrong == "disk":
        raise OSError(28, "No space left on device", "/tmp/batch")
    if wrong == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    network = tiny(layers, shape, classes)
    network.stem = nn.Sequential(Pause(), network.stem)
    return network
'''


@pytest.fixture
def sickly(tiny: Path, tmp_path: Path) -> Path:
    """A sweep of two arms of an own student, which fails on a sick node."""
    path = plugins.package(tmp_path, STUDENT)
    plain = yaml.safe_load(tiny.read_text(encoding="utf-8"))
    plain |= {
        "plugins": [str(tmp_path / path.partition(".")[0])],
        "student": {"architecture": f"{path}:sickly"},
        "arms": {"one": {}, "two": {"set": {"neuron.decay": 0.5}}},
        "space": {"optimizer.lr": {"log": [0.01, 0.1]}},
        "train": {"epochs": 10},
        "search": {"trials": 4, "scheduler": "none", "max_failures": 0},
        "verify": {"seeds": 1},
    }
    tiny.write_text(yaml.safe_dump(plain, sort_keys=False), encoding="utf-8")
    return tiny


def add_node(cluster: Cluster, wrong: str = "") -> str:
    """Add a node with one slot; return the begin of its id, which is in its name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(SICK, wrong)
        return str(cluster.add_node(num_cpus=1).node_id)[:8]


def assert_done(driver: Driver, store: Path) -> None:
    """Assert that the sweep is done, no trial has failed, and the arms have had equal budgets."""
    driver.finish()
    invariants.assert_sweep(store, "tiny")
    assert driver.failures() == []
    assert "Traceback" not in driver.output()


def attempts(driver: Driver) -> list[tuple[str, str]]:
    """The kind and the node of each failed attempt."""
    return [(event["kind"], event["node"]) for event in driver.events("attempt")]


def assert_in_time(driver: Driver, healthy: int, stall: float = 0.0) -> None:
    """Assert that the search took at most 1.5 times what its healthy nodes would have taken alone for all its epochs.

    Args:
        driver: of the search.
        healthy: nodes with a slot each.
        stall: `resources.stall` where a worker hung: its deadline, of ten of the slowest epochs or so many seconds,
            comes on top, as nothing could be known before.
    """
    epochs = driver.events("epoch")
    begun, ended = driver.events("start")[0]["time"], driver.events("end")[-1]["time"]
    starting = epochs[0]["time"] - begun
    times = [event["metrics"]["time/epoch_s"] for event in epochs]
    usual = median(times)
    training = sum(seconds if seconds < SLOW * usual else usual for seconds in times) / healthy
    deadline = max(stall, trial_watch.EPOCHS * max(times)) if stall else 0.0
    assert ended - begun <= 1.5 * (starting + training) + deadline


@pytest.mark.parametrize(("wrong", "kind"), [("cuda", "gpu"), ("disk", "disk"), ("killed", "worker")])
def test_a_node_where_every_training_fails(
    wrong: str, kind: str, cluster: Cluster, sickly: Path, tmp_path: Path
) -> None:
    sick = add_node(cluster, wrong)
    for _ in range(2):
        add_node(cluster)
    driver = Driver(sickly, tmp_path / "store", "--address", cluster.address)
    assert_done(driver, tmp_path / "store")
    failed = attempts(driver)
    assert {found for found, _ in failed} == {kind}
    assert all(sick in node for _, node in failed)
    assert 2 <= len(failed) <= 3, "it is left out after two"
    assert any(sick in line and "is excluded" in line for line in driver.whole_output().splitlines())
    assert_in_time(driver, healthy=2)


def test_a_node_that_runs_out_of_memory(cluster: Cluster, sickly: Path, tmp_path: Path) -> None:
    """Ray's memory monitor kills every process on a node; their trials go on elsewhere."""
    for _ in range(2):
        add_node(cluster)
    driver = Driver(sickly, tmp_path / "store", "--address", cluster.address)
    driver.wait_for_epochs(2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_memory_usage_threshold", "0.001")
        full = add_node(cluster)
    assert_done(driver, tmp_path / "store")
    failed = attempts(driver)
    assert failed
    assert {kind for kind, _ in failed} == {"memory"}
    assert all(full in node for _, node in failed)
    assert any(full in line and "low on memory" in line for line in driver.whole_output().splitlines())
    assert_in_time(driver, healthy=2)


def process_of(driver: Driver) -> tuple[int, str]:
    """Return a process that trains, and its trial, once that has so many epochs that a new beginning is noticed."""
    found: list[tuple[int, str]] = []

    def reached() -> bool:
        running, epochs = driver.running_trials(), driver.events("epoch")
        done = Counter((event["arm"], event["trial"]) for event in epochs)
        for event in epochs:
            trial = event["arm"], event["trial"]
            if not event.get("place") or trial not in running or done[trial] < EPOCHS:
                continue
            if psutil.pid_exists(int(event["place"]["process"])):
                found.append((int(event["place"]["process"]), f"{trial[0]}/{trial[1]}"))
        return bool(found)

    driver.wait(reached)
    return found[-1]


def assert_goes_on(driver: Driver, folder: Path, attempt: dict[str, Any]) -> None:
    """Assert that a trial whose attempt has failed goes on from its checkpoint: no earlier epoch is saved again.

    Each epoch is saved before it is reported, and an epoch takes longer than the time between two looks.
    """
    saved = []

    def reported() -> bool:
        (file,) = folder.glob("checkpoint-*")
        saved.append(int(checkpoint.load(file)[1]["epoch"]))
        epochs = [event for event in driver.events("epoch") if event["time"] > attempt["time"]]
        return any((event["arm"], event["trial"]) == (attempt["arm"], attempt["trial"]) for event in epochs)

    driver.wait(reported)
    assert min(saved) >= attempt["epochs"] >= EPOCHS


@pytest.mark.parametrize(("number", "kind"), [(signal.SIGSTOP, "stall"), (signal.SIGKILL, "worker")])
def test_a_worker_that_hangs_or_is_killed(
    number: signal.Signals, kind: str, cluster: Cluster, sickly: Path, tmp_path: Path
) -> None:
    nodes = [add_node(cluster) for _ in range(2)]
    values = ("resources.stall=30 s", "search.trials=3", "checkpoint.seconds=0")
    settings = [word for value in values for word in ("--set", value)]
    driver = Driver(sickly, tmp_path / "store", "--address", cluster.address, *settings)
    process, trial = process_of(driver)
    os.kill(process, number)
    driver.wait(lambda: bool(attempts(driver)), 600)
    (attempt,) = driver.events("attempt")
    assert_goes_on(driver, tmp_path / "store" / "sweeps" / "tiny" / "trials" / trial, attempt)
    driver.wait(lambda: is_gone(process))
    assert_done(driver, tmp_path / "store")
    ((found, node),) = attempts(driver)
    assert found == kind
    assert any(begin in node for begin in nodes)
    assert f"{attempt['arm']}/{attempt['trial']}" == trial
    assert "is excluded" not in driver.output()
    assert_in_time(driver, healthy=2, stall=30.0 if kind == "stall" else 0.0)


def test_a_node_that_is_ten_times_slower(cluster: Cluster, sickly: Path, tmp_path: Path) -> None:
    slow = add_node(cluster, "slow")
    for _ in range(2):
        add_node(cluster)
    driver = Driver(sickly, tmp_path / "store", "--address", cluster.address)
    assert_done(driver, tmp_path / "store")
    assert attempts(driver) == []
    (named,) = [line for line in driver.whole_output().splitlines() if "is excluded" in line]
    assert slow in named
    assert "times as long as those of the other nodes" in named
    assert_in_time(driver, healthy=2)


def test_all_nodes_gone_and_back(cluster: Cluster, sickly: Path, tmp_path: Path) -> None:
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    driver = Driver(sickly, tmp_path / "store", "--address", cluster.address, "--set", "search.trials=2")
    driver.wait_for_epochs(2)
    for node in nodes:
        cluster.remove_node(node, allow_graceful=False)
    driver.wait(lambda: [event["reason"] for event in driver.events("wait")][-1:] not in ([], [""]))
    (shown,) = run_json("status", "tiny", "--store", tmp_path / "store")
    assert shown["waiting"].startswith("a node: none of")
    assert shown["left_s"] is None
    for _ in range(2):
        add_node(cluster)
    assert_done(driver, tmp_path / "store")
    kinds = {kind for kind, _ in attempts(driver)}
    assert kinds
    assert kinds <= {"node", "worker"}
    assert driver.events("wait")[-1]["reason"] == ""


def test_the_head_away_for_a_minute(cluster: Cluster, sickly: Path, tmp_path: Path) -> None:
    """The head's server answers nobody: nodes train on, and the driver takes their reports; nothing new begins."""
    for _ in range(2):
        add_node(cluster)
    longer = [word for value in ("train.epochs=40", "search.trials=1") for word in ("--set", value)]
    driver = Driver(sickly, tmp_path / "store", "--address", cluster.address, *longer)
    driver.wait_for_epochs(3)
    (server,) = cluster.head_node.all_processes["gcs_server"]
    head = psutil.Process(server.process.pid)
    head.suspend()
    began = time.time()
    try:
        time.sleep(AWAY)
    finally:
        head.resume()
    half = [event for event in driver.events("epoch") if began + AWAY / 4 < event["time"] < began + AWAY / 2]
    assert half, "no epoch was reported while the head was away"
    assert_done(driver, tmp_path / "store")
    assert {kind for kind, _ in attempts(driver)} <= {"node", "worker"}


def test_where_every_node_is_sick_the_sweep_stops_with_the_reason(
    cluster: Cluster, sickly: Path, tmp_path: Path
) -> None:
    for _ in range(2):
        add_node(cluster, "cuda")
    driver = Driver(sickly, tmp_path / "store", "--address", cluster.address)
    assert driver.process.wait(timeout=1000) == 2, driver.output()
    assert "everything fails" in driver.output()
    assert "an illegal memory access" in driver.output()
    assert "Traceback" not in driver.output()
    assert driver.events("end") == []
    for node in list(cluster.worker_nodes):
        cluster.remove_node(node, allow_graceful=False)
    add_node(cluster)
    assert_done(Driver(sickly, tmp_path / "store", "--address", cluster.address), tmp_path / "store")
