"""A sweep so small that it runs in seconds, on real digits."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.cluster_utils import Cluster

TINY: dict[str, Any] = {
    "name": "tiny",
    "dataset": {"name": "digits", "images": 400, "augment": {"crop": 1, "views": 2}},
    "student": {"architecture": "resnet8"},
    "teacher": {"epochs": 1},
    "train": {"epochs": 3},
    "arms": {
        "direct": {},
        "homogeneous": {"teachers": ["resnet8"]},
        "heterogeneous": {"teachers": ["vgg8", "wrn16_2"]},
    },
    "space": {
        "neuron.threshold": {"uniform": [0.3, 1.0]},
        "optimizer.lr": "default",
        "loss.relation.weight": "default",
    },
    "search": {"trials": 2},
    "verify": {"seeds": 2},
}


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """The tiny sweep's file."""
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY, sort_keys=False), encoding="utf-8")
    return path


@pytest.fixture
def replicated(tmp_path: Path) -> Path:
    """The file of a tiny sweep of three replicates, each with teachers and a split of its own, on two data sets."""
    plain = {key: value for key, value in TINY.items() if key not in ("arms", "dataset", "train")}
    plain |= {
        "dataset": {"name": "digits", "augment": {"crop": 1, "views": 2}},
        "datasets": {"many": {"images": 400}, "few": {"images": 300}},
        "replicates": 3,
        "vary": ["search", "teacher", "split"],
        "train": {"epochs": 2},
        "arms": {"direct": {}, "homogeneous": {"teachers": ["resnet8"]}},
        "search": {"trials": 2, "max_failures": 50},
    }
    path = tmp_path / "replicated.yaml"
    path.write_text(yaml.safe_dump(plain, sort_keys=False), encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def no_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use no server and no store but the test's own."""
    for name in ("MLFLOW_TRACKING_URI", "SUPERSNN_OPTUNA_STORAGE", "SUPERSNN_STORE", "SUPERSNN_SHARED", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A head without CPUs; the tests add workers."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    yield cluster
    cluster.shutdown()


@pytest.fixture
def config(tiny: Path) -> Path:
    """A sweep that searches for about a minute, so that nodes can join and leave meanwhile."""
    plain = yaml.safe_load(tiny.read_text(encoding="utf-8"))
    plain["train"] = {"epochs": 16}
    plain["search"] = {"trials": 4, "scheduler": "none", "max_failures": 20}
    tiny.write_text(yaml.safe_dump(plain), encoding="utf-8")
    return tiny
