"""Checkpoints of trials beside the training: which epochs have one, what is in it, and what is trained again."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from supersnn import checkpoint, files
from supersnn.config import TrainConfig
from supersnn.config_model import parse
from supersnn.data import training_data
from supersnn.epoch_report import EpochReport, Snapshot
from supersnn.training import train
from tests.support.records import timeless
from tune.description.sweep import SweepConfig
from tune.execution.checkpoints import CheckpointWriter, Patience, checkpoint_path
from tune.execution.trial import TrialRunner
from tune.search.messages import OWNER, Job
from tune.search.pruning import rungs
from tune.storage import Storage

PLAIN: dict[str, Any] = {
    "dataset": {"name": "digits", "images": 100},
    "student": {"architecture": "resnet8"},
    "train": {"epochs": 4, "batch_size": 32},
}


def job(store: Path, **changed: Any) -> Job:
    config = parse(TrainConfig, PLAIN, "test").model_dump(mode="json")
    Storage(store).write_text(f"sweeps/s/{OWNER}", "token")
    plain = Job("direct/0", config, (0,), "sweeps/s/trials/direct/0", "sweeps/s", str(store), "token")
    return replace(plain, **changed)


def saved(work: Job) -> int:
    """Return how many epochs of a job are in its checkpoint."""
    path = checkpoint_path(Path(work.store) / work.folder, 0)
    return int(checkpoint.load(path)[1]["epoch"]) if path.exists() else 0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Return what moves the writers' clock on."""
    now = [0.0]
    monkeypatch.setattr("tune.execution.checkpoints.time", SimpleNamespace(monotonic=lambda: now[0]))

    def move(seconds: float) -> None:
        now[0] += seconds

    return move


@pytest.fixture
def report() -> EpochReport:
    config = parse(TrainConfig, PLAIN, "test")
    return next(iter(train(config, training_data(config.dataset))))


def test_rungs_and_ends_are_in_a_checkpoint_before_they_are_reported(tmp_path: Path) -> None:
    work = job(tmp_path, save_every=1e6, rungs=(2,))
    assert [(report.epoch, saved(work)) for report in TrialRunner("cpu").run(work)] == [(1, 0), (2, 2), (3, 2), (4, 4)]


def test_a_resumed_trial_has_the_same_bits_and_reports_no_epoch_twice(tmp_path: Path) -> None:
    whole = job(tmp_path / "whole")
    expected = [timeless(report.metrics) for report in TrialRunner("cpu").run(whole)]
    work = job(tmp_path / "lost", save_every=1e6, rungs=(1,))
    lost = TrialRunner("cpu").run(work)
    before = [next(lost) for _ in range(3)]
    lost.close()
    assert saved(work) == 1
    again = list(TrialRunner("cpu").run(replace(work, reported=3)))
    assert [report.epoch for report in (*before, *again)] == [1, 2, 3, 4]
    assert [timeless(report.metrics) for report in (*before, *again)] == expected
    one, other = (checkpoint.load(checkpoint_path(Path(w.store) / w.folder, 0))[0] for w in (whole, work))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_snapshot_is_taken_when_it_is_due_and_none_while_one_is_written(
    clock: Callable[[float], None], report: EpochReport
) -> None:
    written: list[Snapshot] = []
    free = threading.Event()

    def write(snapshot: Snapshot) -> None:
        assert free.wait(60)
        written.append(snapshot)

    with CheckpointWriter(write, 30.0) as writer:
        clock(29)
        writer.take(report, wait=False)
        clock(1)
        began = time.perf_counter()
        writer.take(report, wait=False)
        clock(100)
        writer.take(report, wait=False)
        assert time.perf_counter() - began < 30, "the training has waited"
        assert not written
        free.set()
        writer.take(report, wait=True)
        assert len(written) == 2
        clock(29)
        writer.take(report, wait=False)
    assert len(written) == 2


def test_a_snapshot_is_a_copy() -> None:
    """What is written is the state after its epoch, although the training goes on meanwhile."""
    config = parse(TrainConfig, PLAIN, "test")
    reports = train(config, training_data(config.dataset))
    tensors, meta = next(reports).snapshot()
    copies, epochs = {name: tensor.clone() for name, tensor in tensors.items()}, len(meta["history"])
    next(reports)
    assert all(torch.equal(copies[name], tensor) for name, tensor in tensors.items())
    assert len(meta["history"]) == epochs


def test_an_error_of_the_thread_ends_the_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk: the trial fails after an epoch, and says why."""

    def full(path: Path, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
        del tensors, meta
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(checkpoint, "save", full)
    work = job(tmp_path, save_every=1e-9)
    with pytest.raises(OSError, match="No space left"):
        list(TrialRunner("cpu").run(work))
    trace = (tmp_path / work.folder / "traceback.txt").read_text()
    assert trace.strip().splitlines()[-1].startswith("OSError: [Errno 28]")
    with pytest.raises(OSError, match="No space left"):
        list(TrialRunner("cpu").run(replace(work, attempt=2)))
    assert {path.name for path in (tmp_path / work.folder).glob("traceback*")} == {"traceback.txt", "traceback-2.txt"}


def test_what_is_being_written_when_a_trial_is_stopped_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, write = threading.Event(), files.write_atomically

    def slow(path: Path, content: bytes | str) -> None:
        begun.set()
        time.sleep(0.3)
        write(path, content)

    monkeypatch.setattr(checkpoint, "write_atomically", slow)
    work = job(tmp_path, save_every=1e-9)
    reports = TrialRunner("cpu").run(work)
    next(reports)
    assert begun.wait(30)
    reports.close()
    assert saved(work) == 1
    assert not list((tmp_path / work.folder).glob(".checkpoint-*"))


def test_trainings_that_end_do_not_wait_for_a_storage_that_is_away(report: EpochReport) -> None:
    """A driver that is terminated has 20 seconds, whatever the number of its trainings."""
    back, patience = threading.Event(), Patience(0.5)

    def write(_: Snapshot) -> None:
        back.wait(60)

    began = time.monotonic()
    for _ in range(3):
        with CheckpointWriter(write, 1e-9, patience) as writer:
            time.sleep(0.01)
            writer.take(report, wait=False)
    assert 0.5 <= time.monotonic() - began < 5
    assert all(thread.daemon for thread in threading.enumerate() if thread.name == "checkpoint")
    back.set()


def test_each_epoch_is_saved_where_no_time_may_be_lost(tmp_path: Path) -> None:
    work = job(tmp_path, save_every=0.0)
    assert [saved(work) for _ in TrialRunner("cpu").run(work)] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("search", "expected"),
    [
        ({}, (4, 8)),
        ({"min_epochs": 1, "reduction": 3}, (1, 3, 9)),
        ({"scheduler": "hyperband", "min_epochs": 2}, (2, 4, 8)),
        ({"scheduler": "median"}, ()),
        ({"scheduler": "none"}, ()),
    ],
)
def test_rungs_are_those_of_the_pruner(search: dict[str, Any], expected: tuple[int, ...]) -> None:
    plain = {**PLAIN, "name": "s", "arms": {"direct": {}}, "train": {"epochs": 12}, "search": search}
    assert rungs(parse(SweepConfig, plain, "test")) == expected
