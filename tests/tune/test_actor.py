"""A trial's actor: signs of epochs that it repeats, processes that cannot begin, and preparations after trials."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from supersnn.config import TrainConfig
from supersnn.config_model import parse
from tune.execution import actor, holder, preparing
from tune.execution.actor import StudentTrial
from tune.execution.failures import Failure, SystemFailure
from tune.execution.node_check import NodeMismatch, NodeRequirements, local_report
from tune.execution.task_process import TaskProcess
from tune.search.messages import OWNER, Job
from tune.storage import Storage


@pytest.fixture(autouse=True)
def _on_a_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(get_node_id=lambda: "n"))


def started(config: dict[str, Any]) -> StudentTrial:
    """Return an actor in this process, set up as Tune does."""
    trial = StudentTrial.__new__(StudentTrial)
    trial.setup({"device": "cpu", "gpus": 0.0, "requirements": None, "keeper": None, **config})
    return trial


def job(store: Path, reported: int) -> dict[str, Any]:
    plain = {
        "dataset": {"name": "digits", "images": 100},
        "student": {"architecture": "resnet8"},
        "train": {"epochs": 3},
    }
    config = parse(TrainConfig, plain, "test").model_dump(mode="json")
    Storage(store).write_text(f"sweeps/s/{OWNER}", "token")
    return vars(Job("direct/0", config, (0,), "sweeps/s/trials/direct/0", "sweeps/s", str(store), "token", reported))


def test_each_long_epoch_that_is_repeated_is_a_sign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holder, "SIGN_EVERY", 0.0)
    trial = started({"job": job(tmp_path, reported=2)})
    assert [trial.step() for _ in range(2)] == [{"waits": True, "node": "n"}] * 2
    assert json.loads(trial.step()["report"])["epoch"] == 3
    trial.cleanup()


def test_short_epochs_that_are_repeated_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holder, "SIGN_EVERY", 600.0)
    trial = started({"job": job(tmp_path, reported=2)})
    assert json.loads(trial.step()["report"])["epoch"] == 3
    trial.cleanup()


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (ValueError("no such device"), "worker", "ValueError: no such device"),
        (ImportError("libcudart"), "import", "ImportError: libcudart"),
    ],
)
def test_a_process_that_cannot_begin_has_failed_as_a_machine(
    monkeypatch: pytest.MonkeyPatch, error: Exception, kind: str, text: str
) -> None:
    def fails(_device: str, _gpus: float) -> None:
        raise error

    monkeypatch.setattr(actor, "Own", fails)
    trial = started({"job": {}})
    with pytest.raises(SystemFailure) as raised:
        trial.step()
    assert (raised.value.kind, raised.value.text, raised.value.node) == (kind, text, "n")


def test_the_last_trial_ends_before_a_teacher_is_prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    class Course:
        def __init__(self, _device: str, _gpus: float) -> None:
            pass

        def start(self, job: dict[str, Any]) -> None:
            calls.append(f"start {job['key']}")

        def stop(self) -> None:
            calls.append("stop")

    monkeypatch.setattr(actor, "Own", Course)
    monkeypatch.setattr(preparing, "Preparing", lambda task, _device: calls.append(f"prepare {task['name']}"))
    trial = started({"job": {"key": "x/0"}})
    trial.reset_config({"preparation": {"name": "vgg"}, "device": "cpu"})
    assert calls == ["start x/0", "stop", "prepare vgg"]


def test_a_store_that_cannot_be_read_now_is_no_difference_of_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_storage: Storage, _name: str) -> str:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Storage, "read_text", refuse)
    here = local_report(None, gpus=0.0)
    required = vars(NodeRequirements(here.versions, here.code, 0.0, str(tmp_path), "owner"))
    trial = started({"job": {}, "requirements": required})
    with pytest.raises(SystemFailure, match="Input/output error") as raised:
        trial.step()
    assert (raised.value.kind, raised.value.node) == ("io", "n")
    with pytest.raises(SystemFailure, match="Input/output error"):
        TaskProcess(required, "cpu", 0.0).start()
    other = {**required, "code": "another"}
    assert "node_mismatch" in started({"job": {}, "requirements": other}).step()
    assert isinstance(TaskProcess(other, "cpu", 0.0).start(), NodeMismatch)


def test_a_sick_gpu_of_a_pack_is_a_failure_of_that_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    client = SimpleNamespace(node="n", fault=lambda: "GPU 3: CUDA out of memory")
    monkeypatch.setattr(holder, "Client", lambda _keeper: client)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    trial = started({"job": {}, "keeper": "keeper", "device": "cuda"})
    with pytest.raises(SystemFailure) as raised:
        trial.step()
    assert raised.value.failure == Failure("gpu", "GPU 3: CUDA out of memory", "3")


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (
            RuntimeError("CUDA error: misaligned address"),
            Failure("gpu", "GPU 3: RuntimeError: CUDA error: misaligned address", "3"),
        ),
        (OSError(5, "Input/output error"), Failure("io", "OSError: [Errno 5] Input/output error")),
        (
            RuntimeError("CUDA error: device-side assert triggered"),
            Failure("own", "RuntimeError: CUDA error: device-side assert triggered"),
        ),
    ],
)
def test_what_ends_a_process_is_raised_and_names_its_gpu(
    error: Exception, failure: Failure, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Course:
        def __init__(self, _device: str, _gpus: float) -> None:
            pass

        def start(self, job: dict[str, Any]) -> None:
            pass

        def next(self) -> str:
            if reports:
                return reports.pop()
            raise error

    reports = ["{}"]
    monkeypatch.setattr(actor, "Own", Course)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    trial = started({"job": {}, "device": "cuda"})
    assert trial.step() == {"report": "{}", "node": "n", "gpus": "3"}
    with pytest.raises(SystemFailure) as raised:
        trial.step()
    assert raised.value.failure == failure
