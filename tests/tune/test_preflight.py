"""Preflight checks and the comparison of a node with the driver, without a cluster."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
import torch

from supersnn.errors import UserError
from tune.description.sweep import ResourcesConfig
from tune.execution.failures import SystemFailure
from tune.execution.node_check import (
    NodeReport,
    NodeRequirements,
    difference,
    local_report,
    node_mismatch,
)
from tune.execution.nodes import Node
from tune.execution.preflight import Preflight, preflight, probe, require_capacity
from tune.notices import NodeUnchecked, Notice, ignore
from tune.remote_storage import RemoteStorage
from tune.storage import storage_at
from tune.store import Store
from tune.versions import PACKAGES, source_digest

VERSIONS = {"python": "3.11.7", "torch": "2.14.1"}
REPORT = NodeReport(VERSIONS, "digest")


def test_a_node_like_the_driver_does_not_differ() -> None:
    assert difference(REPORT, VERSIONS, "digest") is None


def test_both_versions_are_named() -> None:
    other = replace(REPORT, versions={"python": "3.11.7", "torch": "2.15.0"})
    reason = difference(other, VERSIONS, "digest")
    assert reason == "torch: 2.15.0, the driver has 2.14.1; install the same version"


def test_other_sources_and_plugins_are_differences() -> None:
    assert "sources" in str(difference(replace(REPORT, code="x"), VERSIONS, "digest"))
    assert difference(replace(REPORT, plugin_fault="older"), VERSIONS, "digest") == "older"


def test_a_probe_reads_and_writes_the_store(tmp_path: Path) -> None:
    (tmp_path / "driver").write_text("driver", encoding="utf-8")
    found = probe(str(tmp_path), ".", "node")
    assert (found.storage_fault, found.code) == (None, source_digest())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["driver", "node"]
    assert {"python", "torch", "ray"} <= found.versions.keys()


def test_builds_of_torch_may_differ_but_not_its_version() -> None:
    report = NodeReport({**VERSIONS, "torch": "2.14.1+cu130"}, "digest")
    assert difference(report, {**VERSIONS, "torch": "2.14.1+cpu"}, "digest") is None
    assert difference(report, {**VERSIONS, "torch": "2.14.1"}, "digest") is None
    assert "torch: 2.14.1+cu130, the driver has 2.14.2" in str(
        difference(report, {**VERSIONS, "torch": "2.14.2+cpu"}, "digest")
    )


def test_a_store_that_a_node_does_not_see(tmp_path: Path) -> None:
    assert "does not see" in str(probe(str(tmp_path / "elsewhere"), ".", "node").storage_fault)


def test_a_store_that_a_node_cannot_write_to(tmp_path: Path) -> None:
    (tmp_path / "driver").write_text("driver", encoding="utf-8")
    (tmp_path / "node").mkdir()
    assert "cannot use" in str(probe(str(tmp_path), ".", "node").storage_fault)


def test_a_node_with_fewer_gpus_than_a_trial_takes(tmp_path: Path) -> None:
    detected = torch.cuda.device_count()
    fault = probe(str(tmp_path), ".", "node", detected + 1).gpu_fault
    assert f"detects {detected} GPUs, a trial takes {detected + 1}" in str(fault)
    assert probe(str(tmp_path), ".", "node", detected).gpu_fault is None


def test_a_node_uses_an_object_store(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPERSNN_SCRATCH", str(tmp_path))
    driver = RemoteStorage(s3, tmp_path / "driver")
    assert "does not see" in str(probe(s3, "preflight", "node").storage_fault)
    driver.write_text("preflight/driver", "driver")
    assert probe(s3, "preflight", "node").storage_fault is None
    assert driver.read_text("preflight/node") == "node"
    assert not [path for path in tmp_path.glob("*/preflight/*") if "driver" not in path.parts]
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    storage_at.cache_clear()
    assert f"it cannot use --shared {s3}" in str(probe(s3, "preflight", "node").storage_fault)


def test_node_mismatch_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(get_node_id=lambda: "id"))
    driver = local_report(None, gpus=0)
    expected = NodeRequirements(driver.versions, driver.code, 0.0, str(tmp_path), "owner")
    with pytest.raises(SystemFailure, match="it does not see what the driver writes to --store") as unseen:
        node_mismatch(expected)
    assert (unseen.value.kind, unseen.value.node) == ("io", "id")
    (tmp_path / "owner").write_text("token", encoding="utf-8")
    assert node_mismatch(expected) is None
    older = node_mismatch(replace(expected, versions={**driver.versions, "torch": "1.0"}))
    assert older is not None
    assert "torch" in older.reason
    assert older.node == "id"
    more = replace(expected, gpus=torch.cuda.device_count() + 1.0)
    with pytest.raises(SystemFailure, match="GPUs") as fewer:
        node_mismatch(more)
    assert fewer.value.kind == "gpu"
    both = node_mismatch(replace(more, code="another"))
    assert both is not None, "a difference excludes the node, whatever else is wrong there"


def test_an_actor_imports_no_torch_before_it_compares_its_node() -> None:
    modules = "tune.execution.actor, tune.execution.task_process"
    code = f"import sys, {modules}; assert not {{'torch', 'optuna'}} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


class Nodes:
    """Ray with a node for each answer to the probe: a report, or an error that asking for it raises."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: NodeReport | Exception) -> None:
        self.answers = {f"{number}" * 56: answer for number, answer in enumerate(answers)}
        self.cancelled = list[Any]()
        record = {"NodeManagerHostname": "host", "Resources": {"CPU": 1.0}, "Alive": True}
        nodes = [{**record, "NodeID": name, "NodeManagerAddress": f"10.0.0.{name[0]}"} for name in self.answers]
        monkeypatch.setattr(ray, "nodes", lambda: nodes)
        monkeypatch.setattr(ray, "remote", lambda **options: lambda _: self if options["num_cpus"] == 0 else None)
        monkeypatch.setattr(ray, "get", self._get)
        monkeypatch.setattr(ray, "cancel", lambda answer, force: self.cancelled.append((answer, force)))

    def options(self, scheduling_strategy: Any) -> "Nodes":
        assert not scheduling_strategy.soft
        return self

    def remote(self, address: str, folder: str, node: str, *_: object) -> str:
        Path(address, folder).mkdir(exist_ok=True)
        Path(address, folder, node).write_text(node, encoding="utf-8")
        return node

    def _get(self, node: str, timeout: float) -> NodeReport:
        assert timeout > 0
        if isinstance(answer := self.answers[node], Exception):
            raise answer
        return answer


SOUND = local_report(None, gpus=0)
FAULTS = {
    "gpu": replace(SOUND, gpu_fault="resources.gpus: GPU 1 computes wrong results"),
    "storage": replace(SOUND, storage_fault="it cannot use --store: No space left on device"),
    "crash": ray.exceptions.WorkerCrashedError(),
}
LATE = ray.exceptions.GetTimeoutError()


def checked(folder: Path, notices: list[Notice] | None = None) -> Preflight:
    notify = ignore if notices is None else notices.append
    return preflight(Store.at(folder).storage, ResourcesConfig(), "owner", notify=notify)


def test_a_node_that_does_not_answer_is_named_and_checked_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes, notices = Nodes(monkeypatch, LATE, SOUND), list[Notice]()
    found = checked(tmp_path, notices)
    assert notices == [NodeUnchecked("host (10.0.0.0)")]
    assert nodes.cancelled == [("0" * 56, True)]
    assert (found.requirements.check_file, found.faulty, found.differing) == ("owner", {}, {})


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("other", [SOUND, LATE])
def test_a_faulty_node_is_told_where_another_can_be_used(
    fault: str, other: NodeReport | Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Nodes(monkeypatch, FAULTS[fault], other)
    found = checked(tmp_path)
    assert list(found.faulty) == ["0" * 56]
    words = {"gpu": "computes wrong results", "storage": "No space left", "crash": "our code does not run on it"}
    assert words[fault] in found.faulty["0" * 56]
    assert found.differing == {}


def test_a_node_that_differs_is_told_apart_from_a_faulty_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Nodes(monkeypatch, replace(SOUND, code="another", storage_fault="full"), SOUND)
    found = checked(tmp_path)
    assert "sources" in found.differing["0" * 56]
    assert found.faulty == {}


def test_a_cluster_without_a_sound_node_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Nodes(monkeypatch, FAULTS["gpu"])
    with pytest.raises(UserError, match=r"^node host \(10\.0\.0\.0\): resources\.gpus: GPU 1 computes wrong results$"):
        checked(tmp_path)
    Nodes(monkeypatch, FAULTS["storage"], replace(SOUND, code="another"), FAULTS["crash"])
    with pytest.raises(UserError, match=r"No space left on device; nor can any of the other 2 nodes be used$"):
        checked(tmp_path)
    assert not list(tmp_path.glob("**/driver")), "the probes' files are gone"


def test_require_capacity_names_what_the_nodes_have() -> None:
    small = Node("id", "small (10.0.0.1)", {"CPU": 1.0}, {})
    with pytest.raises(UserError, match=r"4 CPUs.*small \(10\.0\.0\.1\): 1 CPUs.*trials_at_once"):
        require_capacity([small, small, small, small], ResourcesConfig(cpus=4))
    require_capacity([small], ResourcesConfig())
    halves = [Node(name, name, {"CPU": 8.0, "GPU": 1.0}, {}) for name in ("one", "other")]
    with pytest.raises(UserError, match=r"2 GPUs; no node has that \(one: 8 CPUs, 1 GPUs"):
        require_capacity(halves, ResourcesConfig(gpus=2))


def test_sources_of_all_packages_are_shipped() -> None:
    from tune.execution.cluster import sources

    folders = [Path(folder) for folder in sources()]
    assert {folder.name for folder in folders} == set(PACKAGES) == {"supersnn", "supersnn_cli", "tune", "analysis"}
    assert all((folder / "__init__.py").is_file() for folder in folders)
