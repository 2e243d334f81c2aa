"""Sweeps on clusters with a sick node: they end, every arm has its budget, and the node is named and left out."""

from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from ray.cluster_utils import Cluster

from tests.support import invariants, plugins
from tests.support.driver import ON_A_CLUSTER, Driver

pytestmark = [*ON_A_CLUSTER, pytest.mark.chaos]

SICK = "SUPERSNN_TEST_SICK"
"""The environment variable of a raylet, and so of its workers, with what is wrong there."""
STUDENT = f'''
import os, signal, time
from torch import nn

class Pause(nn.Module):
    """Takes time, on a slow node ten times as much."""
    def forward(self, x):
        time.sleep(0.5 if os.environ.get("{SICK}") == "slow" else 0.05)
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
        "train": {"epochs": 3},
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
    driver.finish(400)
    invariants.assert_sweep(store, "tiny")
    assert driver.failures() == []
    assert "Traceback" not in driver.output()


def attempts(driver: Driver) -> list[tuple[str, str]]:
    """The kind and the node of each failed attempt."""
    return [(event["kind"], event["node"]) for event in driver.events("attempt")]


def assert_in_time(driver: Driver, healthy: int) -> None:
    """Assert that the search took at most 1.5 times what its healthy nodes alone would."""
    epochs = driver.events("epoch")
    begun, ended = min(event["time"] for event in epochs), max(event["time"] for event in driver.events("end"))
    seconds = sum(event["metrics"]["time/epoch_s"] for event in epochs)
    gaps = sorted(b["time"] - a["time"] for a, b in pairwise(epochs) if a["trial"] == b["trial"])
    assert ended - begun <= 1.5 * max(seconds / healthy, len(epochs) / healthy * gaps[len(gaps) // 2]) + 10.0


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
    assert any(sick in line and "is excluded" in line for line in driver.output().splitlines())
    assert_in_time(driver, healthy=2)
