"""A trial with several seeds in this process: its epochs, each seed's own metrics, and their means."""

import os
import platform
import statistics
from dataclasses import replace
from pathlib import Path

import pytest

from supersnn.config import DatasetConfig, TrainConfig
from supersnn.config_model import parse
from supersnn.data import TrainingData, training_data
from supersnn.nvml import GpuReadings
from supersnn.records.metrics import GPU_POWER, MEAN
from tune.execution import trial
from tune.execution.trial import Repeated, StaleDriverError, TrialRunner
from tune.search.messages import OWNER, Job
from tune.storage import Storage


def job(store: Path, reported: int = 0) -> Job:
    plain = {
        "dataset": {"name": "digits", "images": 100},
        "student": {"architecture": "resnet8"},
        "train": {"epochs": 2},
    }
    config = parse(TrainConfig, plain, "test").model_dump(mode="json")
    Storage(store).write_text(f"sweeps/s/{OWNER}", "token")
    return Job("direct/0", config, (0, 1), "sweeps/s/trials/direct/0", "sweeps/s", str(store), "token", reported)


def test_the_last_epoch_of_a_seed_has_its_own_metrics_and_the_means(tmp_path: Path) -> None:
    reports = list(TrialRunner().run(job(tmp_path)))
    assert [(report.epoch, report.ended) for report in reports] == [(1, None), (2, None), (3, None), (4, "finished")]
    assert [any(key.startswith(MEAN) for key in report.metrics) for report in reports] == [False, True, False, True]
    first, last = reports[1].metrics, reports[3].metrics
    for key in ("val/accuracy", "spikes/rate"):
        assert first[MEAN + key] == first[key]
        assert last[MEAN + key] == pytest.approx(statistics.fmean([first[key], last[key]]))
    assert MEAN + "time/epoch_s" not in last
    assert "val/seed_accuracy" not in last
    resumed = list(TrialRunner().run(job(tmp_path, reported=3)))
    assert [(report.epoch, report.metrics) for report in resumed] == [(4, last)]
    signs = [part for part in TrialRunner().run_in_parts(job(tmp_path, reported=3)) if isinstance(part, Repeated)]
    assert signs == [Repeated(1), Repeated(2), Repeated(3)]


def test_the_first_report_of_a_worker_says_where_it_runs(tmp_path: Path) -> None:
    reports = list(TrialRunner("cpu").run(job(tmp_path)))
    assert reports[0].place == {"node": platform.node(), "process": str(os.getpid())}
    assert [report.place for report in reports[1:]] == [None] * 3


def test_every_epoch_has_the_readings_of_its_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GpuReadings, "take", lambda _self: {GPU_POWER.key: 250.0})
    reports = list(TrialRunner("cpu").run(job(tmp_path)))
    assert [report.metrics[GPU_POWER.key] for report in reports] == [250.0] * 4
    assert MEAN + GPU_POWER.key not in reports[-1].metrics


def test_a_worker_of_an_earlier_driver_writes_nothing(tmp_path: Path) -> None:
    work = job(tmp_path)
    Storage(tmp_path).write_text(f"sweeps/s/{OWNER}", "another")
    with pytest.raises(StaleDriverError, match="another driver has taken over"):
        next(TrialRunner().run(work))
    assert not (tmp_path / "sweeps/s/trials").exists()


def test_a_checkpoint_of_another_training_is_not_continued(tmp_path: Path) -> None:
    """A finished one too: its epochs are not this trial's."""
    one = replace(job(tmp_path), seeds=(0,))
    other = replace(one, config={**one.config, "optimizer": {**one.config["optimizer"], "lr": 0.3}})
    expected = [report.metrics["train/loss"] for report in TrialRunner().run(one)]
    others = [report.metrics["train/loss"] for report in TrialRunner().run(other)]
    assert others != expected
    assert [report.metrics["train/loss"] for report in TrialRunner().run(one)] == expected


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[DatasetConfig]:
    """The configurations whose images were loaded."""
    found: list[DatasetConfig] = []

    def noted(config: DatasetConfig, device: str) -> TrainingData:
        found.append(config)
        return training_data(config, device)

    monkeypatch.setattr(trial, "training_data", noted)
    return found


def split(validation_seed: int, views: int = 2) -> DatasetConfig:
    values = {"name": "digits", "images": 100, "validation_seed": validation_seed, "augment": {"views": views}}
    return parse(DatasetConfig, values, "test")


def test_trials_of_several_splits_load_each_once(loads: list[DatasetConfig]) -> None:
    runner = TrialRunner("cpu")
    for _ in range(3):
        assert len({runner.data(split(seed)).fingerprint for seed in range(4)}) == 4
    assert len(loads) == 4
    assert runner.data(split(3, views=5)) is runner.data(split(3))
    assert len(loads) == 4


def test_images_are_held_by_the_trainings_and_otherwise_as_space_allows(
    loads: list[DatasetConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "_HELD", 2 * 100 * 64)
    runner = TrialRunner("cpu")
    running = runner.data(split(0))
    for seed in (1, 2, 3):
        runner.data(split(seed))
    assert runner.data(split(0)) is running
    runner.data(split(3))
    assert len(loads) == 4
    del running
    runner.data(split(1))
    runner.data(split(2))
    assert len(loads) == 6
    runner.data(split(0))
    assert len(loads) == 7
    monkeypatch.setattr(trial, "_HELD", 1)
    assert runner.data(split(1)) is runner.data(split(1))


def test_trials_that_take_turns_on_several_splits_load_each_once(tmp_path: Path, loads: list[DatasetConfig]) -> None:
    runner = TrialRunner("cpu")
    waiting = []
    for number in range(3):
        one = job(tmp_path)
        config = {**one.config, "dataset": split(number).model_dump(mode="json")}
        waiting.append(runner.run_in_parts(replace(one, config=config, folder=f"sweeps/s/trials/direct/{number}")))
    while waiting:
        parts = waiting.pop(0)
        if next(parts, "over") != "over":
            waiting.append(parts)
    assert len(loads) == 3
