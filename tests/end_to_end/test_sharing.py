"""Sweeps on a cluster that others use, or that changes: joined nodes, sweeps side by side, tasks that fail."""

from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from ray.cluster_utils import Cluster

from tests.support import invariants, plugins
from tests.support.driver import ON_A_CLUSTER, Driver

pytestmark = [*ON_A_CLUSTER, pytest.mark.chaos]

SICK = "SUPERSNN_TEST_SICK"
"""The environment variable of a raylet, and so of its workers, with the file that makes its node sick."""
NETWORK = f'''
import os

def sickly(layers, shape, classes):
    """A network that cannot be built on a sick node."""
    if os.path.exists(os.environ.get("{SICK}", "")):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")
    return tiny(layers, shape, classes)

def sickly_too(layers, shape, classes):
    return sickly(layers, shape, classes)
'''


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


def test_two_sweeps_side_by_side_have_equal_shares(cluster: Cluster, short: Path, tmp_path: Path) -> None:
    """The second begins on a full cluster: it waits with one trial, and has half of the slots as trials end."""
    for _ in range(2):
        cluster.add_node(num_cpus=2)
    options = ("--address", cluster.address, "--set", "train.epochs=16", "--set", "search.trials=40")
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    first = Driver(short, tmp_path / "first" / "store", *options)
    first.wait(lambda: len(first.running_trials()) == 4)
    second = Driver(short, tmp_path / "second" / "store", *options)
    first.wait(lambda: (len(begun(first)), len(begun(second))) == (2, 2))
    given_up = min(event["time"] for event in first.events("end"))
    assert len([event for event in second.events("start") if event["time"] < given_up]) <= 1
    for driver in (first, second):
        driver.finish()
        assert driver.failures() == []
    for name in ("first", "second"):
        invariants.assert_sweep(tmp_path / name / "store", "tiny")


@pytest.fixture
def sickly(tiny: Path, tmp_path: Path) -> Path:
    """A sweep whose students and teachers fail on a sick node."""
    path = plugins.package(tmp_path, NETWORK)
    plain = yaml.safe_load(tiny.read_text(encoding="utf-8"))
    plain |= {
        "plugins": [str(tmp_path / path.partition(".")[0])],
        "student": {"architecture": f"{path}:sickly"},
        "arms": {"direct": {}},
        "space": {"optimizer.lr": {"log": [0.01, 0.1]}},
        "search": {"trials": 2, "max_failures": 0},
        "verify": {"seeds": 6},
    }
    tiny.write_text(yaml.safe_dump(plain, sort_keys=False), encoding="utf-8")
    return tiny


def add_nodes(cluster: Cluster, monkeypatch: pytest.MonkeyPatch, sick: Path) -> None:
    """Add a node with a slot that is sick as soon as a file exists, and a healthy one."""
    monkeypatch.setenv(SICK, str(sick))
    cluster.add_node(num_cpus=1)
    monkeypatch.delenv(SICK)
    cluster.add_node(num_cpus=1)


def test_a_final_run_that_fails_on_a_node_is_trained_elsewhere(
    cluster: Cluster, sickly: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sick = tmp_path / "sick"
    add_nodes(cluster, monkeypatch, sick)
    driver = Driver(sickly, tmp_path / "store", "--address", cluster.address)
    driver.wait(lambda: "\nverify\n" in driver.whole_output())
    sick.touch()
    driver.finish()
    invariants.assert_sweep(tmp_path / "store", "tiny")
    assert len(driver.events("verified")) == 6
    assert "CUDA error: an illegal memory access" in driver.output()
    assert "and is tried again" in driver.output()
    assert "Traceback" not in driver.output()


def test_a_teacher_that_fails_on_a_node_is_trained_elsewhere(
    cluster: Cluster, sickly: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two teachers begin at once, one on each node."""
    sick = tmp_path / "sick"
    sick.touch()
    add_nodes(cluster, monkeypatch, sick)
    plain = yaml.safe_load(sickly.read_text(encoding="utf-8"))
    own = plain["student"]["architecture"]
    plain["student"], plain["teacher"] = {"architecture": "resnet8"}, {"epochs": 40}
    plain["arms"] = {"one": {"teachers": [own]}, "two": {"teachers": [f"{own}_too"]}}
    plain["verify"] = {"seeds": 1}
    sickly.write_text(yaml.safe_dump(plain, sort_keys=False), encoding="utf-8")
    driver = Driver(sickly, tmp_path / "store", "--address", cluster.address)
    driver.finish()
    invariants.assert_sweep(tmp_path / "store", "tiny")
    assert len(driver.events("teacher")) == 2
    assert "CUDA error: an illegal memory access" in driver.output()
    assert "and is tried again" in driver.output()
    assert driver.failures() == []
