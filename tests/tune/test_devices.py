"""The device follows from `resources.gpus`."""

import os
from types import SimpleNamespace
from typing import Any

import pytest

from supersnn.config_model import parse
from supersnn.digests import digest
from supersnn.errors import UserError
from tune.description.devices import devices_text
from tune.description.fixed import fixed_digest
from tune.description.sweep import ResourcesConfig, SweepConfig
from tune.execution.device import device_of, run_on, working_device, working_on
from tune.execution.local import LocalExecutor
from tune.execution.nodes import Node, gpus_of
from tune.execution.trial import TrialRunner
from tune.terminal import launch

CARDS = ["NVIDIA H100"] * 8


def described(**resources: object) -> SweepConfig:
    plain = {
        "name": "tiny",
        "dataset": {"name": "digits"},
        "student": {"architecture": "resnet8"},
        "arms": {"direct": {}},
        "resources": resources,
    }
    return parse(SweepConfig, plain, "test")


@pytest.mark.parametrize(
    ("need", "shards", "nodes", "gpus"),
    [
        ({}, 1, [0.0, 0.0], 0),
        ({}, 1, [0.0, 8.0], 1),
        ({}, 1, [], 0),
        ({}, 4, [2.0, 8.0], 4),
        ({}, 4, [2.0, 2.0], 0),
        ({"gpus": 0}, 1, [8.0], 0),
        ({"gpus": 0.25}, 1, [0.0], 0.25),
    ],
)
def test_auto_is_one_gpu_a_shard_where_a_node_has_them(
    need: dict[str, object], shards: int, nodes: list[float], gpus: float
) -> None:
    assert parse(ResourcesConfig, need, "test").resolved(shards, nodes).gpus == gpus


def test_zero_gpus_is_the_cpu_also_beside_gpus() -> None:
    assert device_of(0) == "cpu"
    assert device_of(0.25) == device_of(2) == "cuda"
    assert devices_text(ResourcesConfig(gpus=0), 1, CARDS) == (
        "CPUs; not used: 8 × NVIDIA H100, because resources.gpus is 0"
    )


def test_the_devices_in_words() -> None:
    assert devices_text(ResourcesConfig(), 1, []) == "CPUs"
    assert devices_text(ResourcesConfig(), 1, CARDS) == "8 × NVIDIA H100, 1 a trial"
    assert devices_text(ResourcesConfig(), 9, CARDS).endswith("because 9 shards need as many GPUs")
    assert devices_text(ResourcesConfig(gpus=0.5), 1, ["A", "B"]) == "A, B, 0.5 a trial"
    assert "none here" in devices_text(ResourcesConfig(gpus=1), 1, [])


def test_gpus_of_nodes_have_their_types() -> None:
    one = Node("1", "one", {"CPU": 8.0, "GPU": 2.0, "accelerator_type:A100": 1.0}, {})
    assert gpus_of([one, Node("2", "other", {"CPU": 8.0}, {}), Node("3", "plain", {"GPU": 1.0}, {})]) == [
        "A100",
        "A100",
        "GPU",
    ]


def test_work_runs_on_the_device_that_its_starter_names() -> None:
    assert run_on("cuda", lambda item: (item, working_device()), 3) == (3, "cuda")
    with working_on("cpu"):
        assert TrialRunner().device == "cpu"
    assert LocalExecutor(0, ResourcesConfig(gpus=0)).call(lambda _: working_device(), None) == "cpu"
    executor = LocalExecutor(0, ResourcesConfig(gpus=1))
    assert [result for _, result in executor.tasks(lambda _: working_device(), [None])] == ["cuda"]


def test_a_sweep_in_this_process_asks_for_queues_before_it_looks_for_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_DEVICE_MAX_CONNECTIONS", "")  # so that it is taken back
    monkeypatch.delenv("CUDA_DEVICE_MAX_CONNECTIONS")
    seen = []

    def names() -> list[str]:
        seen.append(os.environ.get("CUDA_DEVICE_MAX_CONNECTIONS"))
        return []

    monkeypatch.setattr("supersnn.gpus.gpu_names", names)
    driver: Any = SimpleNamespace(sweep=described())
    assert isinstance(launch._executor(driver, lambda _: None, None, local=True), LocalExecutor)
    assert seen == ["32"]


def test_the_digest_of_a_sweep_is_as_before_the_default_was_auto() -> None:
    assert fixed_digest(described()) == fixed_digest(described(gpus=0)) == fixed_digest(described(gpus=0.5, cpus=3))
    before = ResourcesConfig(gpus=0.0)
    assert digest(before) == digest(parse(ResourcesConfig, {"gpus": 0}, "test"))
    assert before.model_dump(mode="json") == {
        "cpus": 1.0,
        "gpus": 0.0,
        "pack": 1,
        "memory": None,
        "accelerator": None,
        "labels": {},
        "trials_at_once": None,
        "stall": 600.0,
    }


def test_another_word_than_auto_is_refused() -> None:
    with pytest.raises(UserError, match=r"gpus"):
        parse(ResourcesConfig, {"gpus": "all"}, "test")
    with pytest.raises(UserError, match=r"gpus"):
        parse(ResourcesConfig, {"gpus": -1}, "test")
