"""Which node gets a trial: nodes that differ from the driver, labels, accelerators, fractions; placement groups."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
import psutil
import pytest
import ray
from ray.cluster_utils import Cluster
from ray.util.placement_group import PlacementGroup, placement_group, placement_group_table

from tests.support import invariants
from tests.support.driver import ON_A_CLUSTER, TRAININGS, Driver, may_mount, ray_task
from tune.description.sweep import ResourcesConfig
from tune.execution.nodes import bundle, living, slots

pytestmark = ON_A_CLUSTER


@contextmanager
def joined(cluster: Cluster) -> Iterator[None]:
    """Connect this process to the cluster."""
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


@contextmanager
def blind_node(cluster: Cluster, store: Path) -> Iterator[None]:
    """A node that sees an empty folder at the store's path."""
    start = [str(Path(sys.executable).with_name("ray")), "start", f"--address={cluster.address}", "--num-cpus=1"]
    script = 'mount -t tmpfs none "$0" && exec "$@"'
    command = ["unshare", "-m", "sh", "-c", script, str(store), *start, "--block", "--disable-usage-stats"]
    quiet = subprocess.DEVNULL
    node = subprocess.Popen(command, stdout=quiet, stderr=quiet, start_new_session=True)
    yield
    os.killpg(node.pid, signal.SIGTERM)
    node.wait(timeout=60)


def left_out(driver: Driver) -> list[str]:
    return [line for line in driver.whole_output().splitlines() if "is excluded" in line]


@contextmanager
def other_optuna(folder: Path) -> Iterator[None]:
    """Let the nodes that are added find another version of a library."""
    other = folder / "other" / "optuna-9.9.9.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: optuna\nVersion: 9.9.9\n", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(other.parent))
        yield


def test_nodes_that_join_and_differ_get_nothing(cluster: Cluster, config: Path, tmp_path: Path) -> None:
    """One with another version joins the search, one without the store the verification; each is named once."""
    if not may_mount():
        pytest.skip("needs the right to mount")
    store = tmp_path / "store"
    cluster.add_node(num_cpus=1)
    long = ("train.epochs=120", "search.trials=1", "verify.seeds=2", "search.max_failures=0")
    settings = [word for setting in long for word in ("--set", setting)]  # else the first node does all meanwhile
    driver = Driver(config, store, "--address", cluster.address, *settings)
    driver.wait_for_epochs(2)
    with other_optuna(tmp_path):
        cluster.add_node(num_cpus=1)
    driver.wait(lambda: bool(driver.events("winner")))
    assert len(left_out(driver)) == 1
    assert f"optuna: 9.9.9, the driver has {optuna.__version__}" in left_out(driver)[0]
    with blind_node(cluster, store):
        driver.finish()
    assert len(left_out(driver)) == 2
    assert "it does not see what the driver writes to --store" in left_out(driver)[1]
    assert "it is looked at again later" in left_out(driver)[1], "the store may be mounted yet"
    invariants.assert_sweep(store, "tiny")
    requeued = len(driver.events("start")) - len(driver.events("end"))
    assert requeued in (0, 1), "a teacher's preparation or a trial has met the first one"
    assert driver.failures() == []


def test_without_a_usable_node_the_sweep_ends_with_the_reason(cluster: Cluster, config: Path, tmp_path: Path) -> None:
    """The only node is replaced by one with another version; what was done before is kept."""
    store = tmp_path / "store"
    first = cluster.add_node(num_cpus=1)
    driver = Driver(config, store, "--address", cluster.address)
    driver.wait_for_epochs(2)
    with other_optuna(tmp_path):
        other = cluster.add_node(num_cpus=1)
    cluster.remove_node(first, allow_graceful=False)
    assert driver.process.wait(timeout=200) == 2, driver.output()
    assert "no usable nodes left" in " ".join(driver.output().split())
    assert "Traceback" not in driver.output()
    assert driver.failures() == []
    cluster.remove_node(other, allow_graceful=False)
    cluster.add_node(num_cpus=1)
    Driver(config, store, "--address", cluster.address).finish()
    invariants.assert_sweep(store, "tiny")


def test_labels_and_accelerators_choose_the_node(
    cluster: Cluster, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accelerator = {"accelerator_type:A100": 1}
    for name, labels, resources in (
        ("right", {"disk": "ssd"}, accelerator),
        ("other label", {"disk": "hdd"}, accelerator),
        ("no accelerator", {"disk": "ssd"}, {}),
    ):
        monkeypatch.setenv("NODE_UNDER_TEST", name)
        cluster.add_node(num_cpus=1, labels=labels, resources=resources)
    monkeypatch.delenv("NODE_UNDER_TEST")
    wanted = ("--set", "resources.labels={disk: ssd}", "--set", "resources.accelerator=A100")
    driver = Driver(config, tmp_path / "store", "--address", cluster.address, *wanted, "--set", "search.trials=1")
    seen = set()
    while driver.process.poll() is None:
        seen |= set(trainings_on_nodes())
        time.sleep(0.2)
    driver.finish()
    assert {node for _, node in seen} == {"right"}
    assert {task for task, _ in seen} == TRAININGS


def trainings_on_nodes() -> Iterator[tuple[str, str]]:
    """Yield the Ray task of each process that trains, and the name of its node."""
    for process in psutil.process_iter():
        task = ray_task(process)
        if task is None or task not in TRAININGS:
            continue
        try:
            node = process.environ().get("NODE_UNDER_TEST")
        except psutil.Error:
            continue
        if node is not None:
            yield task, node


def test_gpus_that_torch_does_not_see_are_refused(cluster: Cluster, config: Path, tmp_path: Path) -> None:
    cluster.add_node(num_cpus=1, num_gpus=1)
    driver = Driver(config, tmp_path / "store", "--address", cluster.address, "--set", "resources.gpus=0.5")
    assert driver.process.wait(timeout=200) == 2
    assert "detects 0 GPUs, a trial takes 0.5" in " ".join(driver.output().split())
    assert "Traceback" not in driver.output()


@pytest.mark.parametrize(
    "need",
    [
        ResourcesConfig(cpus=1, gpus=0.4),
        ResourcesConfig(cpus=3),
        ResourcesConfig(cpus=1, gpus=2),
        ResourcesConfig(cpus=1, gpus=0.25, labels={"disk": "ssd"}, accelerator="A100"),
    ],
)
def test_ray_places_as_many_trials_as_are_counted(cluster: Cluster, need: ResourcesConfig) -> None:
    cluster.add_node(num_cpus=7, num_gpus=2, labels={"disk": "ssd"}, resources={"accelerator_type:A100": 1})
    cluster.add_node(num_cpus=4, num_gpus=1, labels={"disk": "hdd"})
    with joined(cluster):
        capacity = slots(living(ray.nodes()), need)
        assert capacity > 0
        groups = [place(need) for _ in range(capacity)]
        assert all(group.wait(30) for group in groups)
        assert not place(need).wait(3)


def place(need: ResourcesConfig) -> PlacementGroup:
    return placement_group([bundle(need)], bundle_label_selector=[need.labels] if need.labels else None)


def test_trials_at_once_are_requested_together(cluster: Cluster, config: Path, tmp_path: Path) -> None:
    """An autoscaler reads the placement groups that wait for a node."""
    cluster.add_node(num_cpus=1)
    driver = Driver(config, tmp_path / "store", "--address", cluster.address, "--set", "resources.trials_at_once=4")
    driver.wait(lambda: bool(driver.events("epoch")))
    with joined(cluster):
        states = [group["state"] for group in placement_group_table().values()]
        assert (states.count("CREATED"), states.count("PENDING")) == (1, 3)
        waiting = [group for group in placement_group_table().values() if group["state"] == "PENDING"]
        assert all(group["bundles"] == {0: {"CPU": 1.0}} for group in waiting)
    driver.kill()
