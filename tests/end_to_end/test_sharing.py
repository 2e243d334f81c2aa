"""Sweeps on a cluster that others use, or that changes: joined nodes, sweeps side by side, tasks that fail."""

from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from ray.cluster_utils import Cluster

from tests.support import invariants
from tests.support.driver import ON_A_CLUSTER, Driver

pytestmark = ON_A_CLUSTER


@pytest.fixture
def short(tiny: Path) -> Path:
    """A sweep of many trials, each of some seconds, less than a process takes to start."""
    plain = yaml.safe_load(tiny.read_text(encoding="utf-8"))
    plain |= {"arms": {"direct": {}}, "train": {"epochs": 4}, "verify": {"seeds": 1}}
    del plain["space"]["loss.relation.weight"]
    plain["search"] = {"trials": 24, "scheduler": "none"}
    tiny.write_text(yaml.safe_dump(plain), encoding="utf-8")
    return tiny


def works_on(driver: Driver, node: Any) -> bool:
    """Whether an epoch was reported by a process of a node that still runs."""
    raylet = node.all_processes["raylet"][0].process.pid
    places = [event["place"] for event in driver.events("epoch") if event.get("place")]
    for process in {int(place["process"]) for place in places}:
        try:
            if psutil.Process(process).ppid() == raylet:
                return True
        except psutil.NoSuchProcess:
            continue
    return False


def test_a_node_that_joins_a_sweep_of_short_trials_trains_epochs(cluster: Cluster, short: Path, tmp_path: Path) -> None:
    cluster.add_node(num_cpus=1)
    driver = Driver(short, tmp_path / "store", "--address", cluster.address)
    driver.wait_for_epochs(1)
    joined = cluster.add_node(num_cpus=1)
    driver.wait(lambda: works_on(driver, joined))
    driver.finish()
    invariants.assert_sweep(tmp_path / "store", "tiny")


def begun(driver: Driver) -> set[tuple[str, int]]:
    """The trials that have reported an epoch and have not ended."""
    return {(event["arm"], event["trial"]) for event in driver.events("epoch")} - driver.ended_trials()


def test_two_sweeps_side_by_side_have_equal_shares(cluster: Cluster, config: Path, tmp_path: Path) -> None:
    """The second begins on a full cluster: it waits with one trial, and has half of the slots as trials end."""
    for _ in range(2):
        cluster.add_node(num_cpus=2)
    options = ("--address", cluster.address, "--set", "verify.seeds=1", "--set", "train.epochs=40")
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    first = Driver(config, tmp_path / "first" / "store", *options)
    first.wait(lambda: len(first.running_trials()) == 4)
    second = Driver(config, tmp_path / "second" / "store", *options)
    most = 0

    def shared() -> bool:
        nonlocal most
        waiting = second.running_trials() - begun(second)
        most = max(most, len(waiting) if not begun(second) else 0)
        return (len(begun(first)), len(begun(second))) == (2, 2)

    first.wait(shared)
    assert most <= 1
    for driver in (first, second):
        driver.finish()
        assert driver.failures() == []
    for name in ("first", "second"):
        invariants.assert_sweep(tmp_path / name / "store", "tiny")
