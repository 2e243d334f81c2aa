"""Interrupted under Ray, uninterrupted, and `supersnn train` in a fresh process: the same bits."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from supersnn import checkpoint
from supersnn.config import TrainConfig
from supersnn.config_model import parse, to_yaml
from supersnn.data import training_data
from supersnn.teacher_sources import teacher_source_for
from supersnn.training import train
from tests.support.records import timeless
from tune.execution.checkpoints import checkpoint_path
from tune.execution.trial import StaleDriverError, TrialRunner
from tune.remote_storage import RemoteStorage
from tune.search.messages import Job, Report
from tune.storage import storage_at

PLAIN = {
    "dataset": {"name": "digits", "images": 400, "augment": {"crop": 1, "views": 2}},
    "student": {"architecture": "resnet8"},
    "teacher": {"name": "vgg8", "epochs": 1},
    "loss": {"relation": {"weight": 30.0}},
    "train": {"epochs": 3},
}


def job(tmp_path: Path, name: str) -> Job:
    sweep = tmp_path / name
    sweep.mkdir(exist_ok=True)
    (sweep / "owner").write_text("token", encoding="utf-8")
    return Job("arm/0", PLAIN, (0,), str(sweep / "trials/arm/0"), str(sweep), str(tmp_path / "store"), "token")


@pytest.fixture
def ray_with_tune() -> Iterator[None]:
    import ray

    from tune.execution import cluster  # noqa: F401 (sets what Ray reads when it starts)

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning:ray")
@pytest.mark.usefixtures("ray_with_tune")
def test_interrupted_under_ray_uninterrupted_and_a_fresh_process_agree(tmp_path: Path) -> None:
    import ray

    config = parse(TrainConfig, PLAIN, "test")
    data = training_data(config.dataset)
    teacher_source = teacher_source_for(config, data, tmp_path / "store")
    *_, last = train(config, data, teacher_source)
    tensors, last_meta = last.snapshot()

    @ray.remote(num_cpus=1, max_calls=1)
    def some_epochs(work: Job, stop_after: int) -> list[dict[str, float]]:
        reports = TrialRunner().run(work)
        return [next(reports).metrics for _ in range(stop_after)]

    interrupted = job(tmp_path, "interrupted")
    first = ray.get(some_epochs.remote(interrupted, 1))
    rest = ray.get(some_epochs.remote(Job(**{**vars(interrupted), "reported": 1}), 2))
    restored, meta = checkpoint.load(checkpoint_path(Path(interrupted.folder), 0))
    assert tensors.keys() == restored.keys()
    assert all(torch.equal(tensors[name], restored[name]) for name in tensors)
    assert meta["ended"] == "finished"

    file = tmp_path / "config.yaml"
    file.write_text(to_yaml(config), encoding="utf-8")
    command = [sys.executable, "-m", "supersnn_cli", "train", str(file), "--store", str(tmp_path / "fresh"), "--json"]
    fresh = subprocess.run([*command, "--to", str(tmp_path / "export")], capture_output=True, text=True, check=True)
    assert json.loads(fresh.stdout)["val_accuracy"] == last.metrics["val/accuracy"] == rest[-1]["val/accuracy"]
    weights, _ = checkpoint.load(tmp_path / "export" / "student.safetensors")
    ours = checkpoint.student_weights(tensors)
    assert all(torch.equal(ours[name], weights[name]) for name in ours)
    assert [timeless(metrics) for metrics in (*first, *rest)] == [timeless(m) for m in last_meta["history"]]


def test_a_trial_resumes_on_a_node_that_has_only_the_address(
    tmp_path: Path, s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = parse(TrainConfig, PLAIN, "test")
    *_, last = train(
        config, training_data(config.dataset), teacher_source_for(config, training_data(config.dataset), tmp_path)
    )
    work = Job("arm/0", PLAIN, (0,), "sweeps/s/trials/arm/0", "sweeps/s", s3, "token")
    driver = RemoteStorage(s3, tmp_path / "driver")
    driver.write_text("sweeps/s/owner", "token")

    def node(name: str) -> Iterator[Report]:
        monkeypatch.setenv("SUPERSNN_SCRATCH", str(tmp_path / name))
        storage_at.cache_clear()
        return TrialRunner().run(work)

    lost = node("first")
    first = [next(lost), next(lost)]
    monkeypatch.setattr("supersnn.teachers._train", None)
    monkeypatch.setattr("supersnn.teacher_cache._write_view", None)
    resumed = list(node("second"))
    assert resumed[:2] == first, "the second node trains epochs again"
    restored, meta = checkpoint.load(driver.fetch("sweeps/s/trials/arm/0/checkpoint-0.safetensors"))
    assert meta["ended"] == "finished"
    tensors, _ = last.snapshot()
    assert tensors.keys() == restored.keys()
    assert all(torch.equal(tensors[name], restored[name]) for name in tensors)
    assert not list((tmp_path / "second").rglob("checkpoint-*")), "a node keeps the checkpoint of a trial that is over"
    driver.write_text("sweeps/s/owner", "another")
    with pytest.raises(StaleDriverError):
        next(lost)
    assert driver.fetch("sweeps/s/trials/arm/0/checkpoint-0.safetensors").exists()
    assert checkpoint.load(driver.root / "sweeps/s/trials/arm/0/checkpoint-0.safetensors")[1] == meta


def test_a_worker_of_an_earlier_driver_can_write_nothing(tmp_path: Path) -> None:
    work = job(tmp_path, "taken")
    reports = TrialRunner().run(work)
    next(reports)
    before = (checkpoint_path(Path(work.folder), 0)).read_bytes()
    (tmp_path / "taken" / "owner").write_text("another", encoding="utf-8")
    with pytest.raises(StaleDriverError):
        next(reports)
    assert (checkpoint_path(Path(work.folder), 0)).read_bytes() == before
