"""A trial in a worker: a job becomes one training a seed, epochs become reports, each behind a checkpoint."""

import statistics
import traceback
from collections.abc import Iterator
from pathlib import Path

import torch

from supersnn import checkpoint
from supersnn.bank import guide_for
from supersnn.config import DatasetConfig, TrainConfig, parse, with_values
from supersnn.data import TrainingData, training_data
from supersnn.training import Snapshot, train
from tune.search.driver import Job, Report

TRACEBACK = "traceback.txt"
ACCURACY = "val/accuracy"


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

        The training goes on from the checkpoint of an earlier worker; epochs that are in it and were not told yet come
        first. The report that ends the trial comes in any case, because its end may not have been told.

        Over several seeds epochs count on, and the last epoch of each seed has as `val/accuracy` the mean of the seeds
        so far, its own as `val/seed_accuracy`.

        Raises:
            Disowned: another driver has taken the sweep over.
        """
        folder = Path(job.folder)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            yield from self._seeds(parse(TrainConfig, job.config, job.key), job, folder)
        except Disowned:
            raise
        except Exception:
            (folder / TRACEBACK).write_text(traceback.format_exc(), encoding="utf-8")
            raise

    def _seeds(self, config: TrainConfig, job: Job, folder: Path) -> Iterator[Report]:
        finals: list[float] = []
        for position, seed in enumerate(job.seeds):
            seeded = with_values(config, {"seed": seed})
            for report in self._epochs(seeded, job, checkpoint_path(folder, seed)):
                metrics, ended = report.metrics, report.ended
                if ended == "finished":
                    finals.append(metrics[ACCURACY])
                    if len(job.seeds) > 1:
                        own = {"val/seed_accuracy": metrics[ACCURACY]}
                        metrics = {**metrics, **own, ACCURACY: statistics.fmean(finals)}
                    if position < len(job.seeds) - 1:
                        ended = None
                epoch = position * config.train.epochs + report.epoch
                if epoch > job.told or ended is not None:
                    yield Report(epoch, metrics, ended)
                if ended is not None:
                    return

    def _epochs(self, config: TrainConfig, job: Job, path: Path) -> Iterator[Report]:
        """Yield all epochs of one training: those in its checkpoint, then those that are trained now."""
        resume = _checkpoint(path)
        if resume is not None:
            history, ended = resume[1]["history"], resume[1]["ended"]
            for epoch, metrics in enumerate(history, start=1):
                yield Report(epoch, metrics, ended if epoch == len(history) else None)
            if ended is not None:
                return
        data = self.data(config.dataset)
        guide = guide_for(config, data, Path(job.store), self.device)
        for report in train(config, data, guide, resume, self.device):
            tensors, meta = report.snapshot()
            check_owner(Path(job.sweep), job.token)
            checkpoint.save(path, tensors, meta)
            yield Report(report.epoch, report.metrics, report.ended)


def checkpoint_path(folder: Path, seed: int) -> Path:
    """Return where a trial keeps the checkpoint of one of its seeds."""
    return folder / f"checkpoint-{seed}.safetensors"


def _checkpoint(path: Path) -> Snapshot | None:
    """Return what an earlier worker left; a damaged file is as good as none."""
    try:
        return checkpoint.load(path)
    except FileNotFoundError:
        return None
    except checkpoint.DamagedFile:
        path.unlink()
        return None


def check_owner(sweep: Path, token: str) -> None:
    """Refuse to go on where the sweep belongs to another driver.

    Raises:
        Disowned: the owner's token is not this one.
    """
    owner = sweep / "owner"
    if owner.read_text(encoding="utf-8").strip() != token:
        raise Disowned(f"{owner}: another driver has taken over")
