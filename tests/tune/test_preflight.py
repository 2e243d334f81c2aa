"""What is compared between the driver and a node, without a cluster."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray
import torch

from supersnn.errors import UserError
from tune.description.sweep import ResourcesConfig
from tune.execution.nodes import Node
from tune.execution.preflight import (
    NodeReport,
    NodeRequirements,
    compare,
    node_mismatch,
    probe,
    require_capacity,
    run_if_node_matches,
    source_digest,
)
from tune.storage import RemoteStorage, storage_at

HERE = NodeReport({"python": "3.11.7", "torch": "2.14.1"}, "digest", None, None)


def test_the_same_is_let_through() -> None:
    assert compare(HERE, HERE) is None


def test_a_difference_is_named_with_both_versions() -> None:
    other = replace(HERE, versions={"python": "3.11.7", "torch": "2.15.0"})
    assert compare(other, HERE) == "torch is 2.15.0 there and 2.14.1 at the driver; both must be the same"


@pytest.mark.parametrize(
    ("other", "word"), [({"code": "x"}, "code"), ({"store": "no store"}, "no store"), ({"missing": "no GPU"}, "no GPU")]
)
def test_each_finding_is_told(other: dict[str, str], word: str) -> None:
    assert word in str(compare(replace(HERE, **other), HERE))


def test_a_probe_reads_and_writes_the_store(tmp_path: Path) -> None:
    (tmp_path / "driver").write_text("driver", encoding="utf-8")
    found = probe(str(tmp_path), ".", "node")
    assert (found.store, found.code) == (None, source_digest())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["driver", "node"]
    assert {"python", "torch", "ray"} <= found.versions.keys()


def test_a_store_that_a_node_does_not_see(tmp_path: Path) -> None:
    assert "does not see" in str(probe(str(tmp_path / "elsewhere"), ".", "node").store)


def test_a_store_that_a_node_cannot_write_to(tmp_path: Path) -> None:
    (tmp_path / "driver").write_text("driver", encoding="utf-8")
    (tmp_path / "node").mkdir()
    assert "cannot use" in str(probe(str(tmp_path), ".", "node").store)


def test_a_node_with_fewer_gpus_than_a_trial_takes(tmp_path: Path) -> None:
    seen = torch.cuda.device_count()
    assert f"sees {seen} GPUs there, a trial takes {seen + 1}" in str(
        probe(str(tmp_path), ".", "node", seen + 1).missing
    )
    assert probe(str(tmp_path), ".", "node", seen).missing is None


def test_a_node_uses_an_object_store(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPERSNN_SCRATCH", str(tmp_path))
    driver = RemoteStorage(s3, tmp_path / "driver")
    assert "does not see" in str(probe(s3, "preflight", "node").store)
    driver.write_text("preflight/driver", "driver")
    assert probe(s3, "preflight", "node").store is None
    assert driver.read_text("preflight/node") == "node"
    assert not [path for path in tmp_path.glob("*/preflight/*") if "driver" not in path.parts]
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    storage_at.cache_clear()
    assert f"it cannot use --shared {s3}" in str(probe(s3, "preflight", "node").store)


def test_a_process_compares_its_node_before_it_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(get_node_id=lambda: "id"))
    here = probe(str(tmp_path), ".", None)
    expected = NodeRequirements(here.versions, here.code, 0.0, str(tmp_path), "owner")
    unseen = node_mismatch(expected)
    assert unseen is not None
    assert unseen.node == "id"
    assert "it does not see what the driver writes to --store" in unseen.reason
    assert run_if_node_matches(b"torn", vars(expected)) == unseen
    (tmp_path / "owner").write_text("token", encoding="utf-8")
    assert node_mismatch(expected) is None
    assert run_if_node_matches(ray.cloudpickle.dumps((len, "four")), vars(expected)) == 4
    older = node_mismatch(replace(expected, versions={**here.versions, "torch": "1.0"}))
    assert older is not None
    assert "torch is" in older.reason
    more = node_mismatch(replace(expected, gpus=torch.cuda.device_count() + 1.0))
    assert more is not None
    assert "GPUs there" in more.reason


def test_without_a_node_that_holds_a_trial() -> None:
    small = Node("id", "small (10.0.0.1)", {"CPU": 1.0}, {})
    with pytest.raises(UserError, match=r"4 CPUs.*small \(10\.0\.0\.1\): 1 CPUs.*trials_at_once"):
        require_capacity([small, small, small, small], ResourcesConfig(cpus=4))
    require_capacity([small], ResourcesConfig())
    halves = [Node(name, name, {"CPU": 8.0, "GPU": 1.0}, {}) for name in ("one", "other")]
    with pytest.raises(UserError, match=r"2 GPUs; no node has that \(one: 8 CPUs, 1 GPUs"):
        require_capacity(halves, ResourcesConfig(gpus=2))


def test_every_package_of_ours_is_shipped_to_the_nodes() -> None:
    from tune.execution.cluster import sources

    folders = [Path(folder) for folder in sources()]
    assert {folder.name for folder in folders} == {"supersnn", "supersnn_cli", "tune", "analysis"}
    assert all((folder / "__init__.py").is_file() for folder in folders)
