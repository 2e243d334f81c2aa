"""What is compared between the driver and a node, without a cluster."""

from dataclasses import replace
from pathlib import Path

import pytest

from supersnn.errors import UserError
from tune.description.sweep import ResourcesConfig
from tune.execution.checks import Found, compare, probe, require_room, source_digest
from tune.execution.nodes import Node

HERE = Found({"python": "3.11.7", "torch": "2.14.1"}, "digest", None, None)


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
    found = probe(str(tmp_path), "node", gpu=False)
    assert (found.store, found.code) == (None, source_digest())
    assert (tmp_path / "node").exists()
    assert {"python", "torch", "ray"} <= found.versions.keys()


def test_a_store_that_a_node_does_not_see(tmp_path: Path) -> None:
    assert "does not see the store" in str(probe(str(tmp_path / "elsewhere"), "node", gpu=False).store)


def test_a_store_that_a_node_cannot_write_to(tmp_path: Path) -> None:
    (tmp_path / "driver").write_text("driver", encoding="utf-8")
    (tmp_path / "node").mkdir()
    assert "cannot write" in str(probe(str(tmp_path), "node", gpu=False).store)


def test_without_a_node_that_holds_a_trial() -> None:
    small = Node("id", "small (10.0.0.1)", {"CPU": 1.0}, {})
    with pytest.raises(UserError, match=r"4 CPUs.*small \(10\.0\.0\.1\): 1 CPUs.*trials_at_once"):
        require_room([small, small, small, small], ResourcesConfig(cpus=4))
    require_room([small], ResourcesConfig())
