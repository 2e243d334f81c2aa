"""A trial in a worker: a job becomes a training, its epochs become reports, each behind a checkpoint."""

import shutil
import traceback
from collections.abc import Iterator
from pathlib import Path

import torch

from supersnn import checkpoint
from supersnn.bank import guide_for
from supersnn.config import DatasetConfig, TrainConfig, parse
from supersnn.data import TrainingData, training_data
from supersnn.training import train
from tune.search import Job, Report

CHECKPOINT, TRACEBACK = "checkpoint.safetensors", "traceback.txt"


class Disowned(RuntimeError):
    """The sweep has another driver now: this worker may write nothing more."""


class Runner:
    """Runs trials one after another in this process; images stay loaded from one trial to the next."""

    def __init__(self) -> None:
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self._data: dict[DatasetConfig, TrainingData] = {}

    def data(self, config: DatasetConfig) -> TrainingData:
        """Return the training images of a configuration, on this worker's device."""
        if config not in self._data:
            self._data = {config: training_data(config, self.device)}
        return self._data[config]

    def run(self, job: Job) -> Iterator[Report]:
        """Yield the reports of a job's epochs after the first `job.told`, each already in a checkpoint.

        The training goes on from the checkpoint of an earlier worker. Epochs that are in it and were not told yet
        come first; where nothing is left to train, the last one comes again, because its end was not told.

        Raises:
            Disowned: another driver has taken the sweep over.
        """
        config = parse(TrainConfig, job.config, job.key)
        folder = Path(job.folder)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            yield from self._run(config, job, folder)
        except Disowned:
            raise
        except Exception:
            (folder / TRACEBACK).write_text(traceback.format_exc(), encoding="utf-8")
            raise

    def _run(self, config: TrainConfig, job: Job, folder: Path) -> Iterator[Report]:
        path = folder / CHECKPOINT
        resume = checkpoint.load(path) if path.exists() else None
        if resume is not None:
            history = resume[1]["history"]
            ended = resume[1]["ended"]
            first = min(job.told, len(history) - 1) if ended else job.told
            for number, metrics in enumerate(history[first:], start=first + 1):
                yield Report(number, metrics, ended if number == len(history) else None)
            if ended:
                return
        data = self.data(config.dataset)
        guide = guide_for(config, data, Path(job.store), self.device)
        for report in train(config, data, guide, resume, self.device):
            tensors, meta = report.snapshot()
            check_owner(Path(job.sweep), job.token)
            checkpoint.save(path, tensors, meta)
            yield Report(report.epoch, report.metrics, report.ended)


def check_owner(sweep: Path, token: str) -> None:
    """Refuse to go on where the sweep belongs to another driver.

    Raises:
        Disowned: the owner's token is not this one.
    """
    owner = sweep / "owner"
    if owner.read_text(encoding="utf-8").strip() != token:
        raise Disowned(f"{owner}: another driver has taken over")


def discard(folder: Path) -> None:
    """Remove a trial's checkpoint once it can neither win nor go on; its traceback stays."""
    (folder / CHECKPOINT).unlink(missing_ok=True)
    if folder.exists() and not any(folder.iterdir()):
        shutil.rmtree(folder, ignore_errors=True)
