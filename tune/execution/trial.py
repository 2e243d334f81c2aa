"""A trial in a worker: a job becomes one training a seed, epochs become reports, each behind a checkpoint."""

import statistics
import traceback
from collections.abc import Generator, Iterator
from contextlib import suppress
from pathlib import Path

import torch

from supersnn import checkpoint
from supersnn.config import DatasetConfig, TrainConfig
from supersnn.config_model import parse, with_values
from supersnn.data import TrainingData, training_data
from supersnn.files import DamagedFile, write_atomically
from supersnn.training import Snapshot, train
from tune.execution.teacher_storage import teacher_source_at
from tune.search.messages import NO_SPACE, OWNER, TRACEBACK, Job, Report
from tune.storage import Storage, storage_at

ACCURACY = "val/accuracy"


class StaleDriverError(RuntimeError):
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

    def run(self, job: Job) -> Generator[Report]:
        """Yield the reports of a job's epochs after the first `job.reported`, each already in a checkpoint.

        The training goes on from the checkpoint of an earlier worker; epochs that are in it and were not told yet come
        first. The report that ends the trial comes in any case, because its end may not have been told.

        Over several seeds epochs count on, and the last epoch of each seed has as metrics the means over the seeds so
        far (times are its own), and its own accuracy as `val/seed_accuracy`.

        Raises:
            StaleDriverError: another driver has taken the sweep over.
        """
        storage, ours = storage_at(job.store), True
        storage.evict(job.folder)  # what a killed worker left on this node and nobody else has seen
        try:
            yield from self._seeds(parse(TrainConfig, job.config, job.key), job, storage)
        except StaleDriverError:
            ours = False  # a worker of the other driver may be using this node's copy
            raise
        except Exception:
            _say_why(storage, f"{job.folder}/{TRACEBACK}")
            raise
        finally:
            if ours:
                storage.evict(job.folder)

    def _seeds(self, config: TrainConfig, job: Job, storage: Storage) -> Iterator[Report]:
        finals: list[dict[str, float]] = []
        for position, seed in enumerate(job.seeds):
            seeded = with_values(config, {"seed": seed})
            for report in self._epochs(seeded, job, storage):
                metrics, ended = report.metrics, report.ended
                if ended == "finished":
                    finals.append(metrics)
                    if len(job.seeds) > 1:
                        metrics = {**_means(finals), "val/seed_accuracy": metrics[ACCURACY]}
                    if position < len(job.seeds) - 1:
                        ended = None
                epoch = position * config.train.epochs + report.epoch
                if epoch > job.reported or ended is not None:
                    yield Report(epoch, metrics, ended)
                if ended is not None:
                    return

    def _epochs(self, config: TrainConfig, job: Job, storage: Storage) -> Iterator[Report]:
        """Yield all epochs of one training: those in its checkpoint, then those that are trained now."""
        name = checkpoint_path(Path(job.folder), config.seed).as_posix()
        resume = _checkpoint(storage, name)
        if resume is not None:
            history, ended = resume[1]["history"], resume[1]["ended"]
            for epoch, metrics in enumerate(history, start=1):
                yield Report(epoch, metrics, ended if epoch == len(history) else None)
            if ended is not None:
                return
        data = self.data(config.dataset)
        teacher_source = teacher_source_at(storage, config, data, self.device)
        for report in train(config, data, teacher_source, resume, self.device):
            tensors, meta = report.snapshot()
            check_owner(storage, job.sweep, job.token)
            checkpoint.save(storage.root / name, tensors, meta)
            storage.publish(name)
            yield Report(report.epoch, report.metrics, report.ended)


def _means(finals: list[dict[str, float]]) -> dict[str, float]:
    """The last of some seeds' metrics, each but times and what an earlier seed lacks as the mean over all of them."""
    shared = [name for name in finals[-1] if not name.startswith("time/") and all(name in one for one in finals)]
    return finals[-1] | {name: statistics.fmean(one[name] for one in finals) for name in shared}


def checkpoint_path(folder: Path, seed: int) -> Path:
    """Return where a trial keeps the checkpoint of one of its seeds."""
    return folder / f"checkpoint-{seed}.safetensors"


def _checkpoint(storage: Storage, name: str) -> Snapshot | None:
    """Return what an earlier worker left, on this node or another; a damaged file is as good as none."""
    try:
        return checkpoint.load(storage.fetch(name))
    except FileNotFoundError:
        return None
    except DamagedFile:
        (storage.root / name).unlink(missing_ok=True)
        return None


def _say_why(storage: Storage, name: str) -> None:
    """Leave the traceback of the exception under way for the driver."""
    text = traceback.format_exc()
    with suppress(OSError):
        if NO_SPACE in text:
            storage.remove(name.rpartition("/")[0], ".checkpoint-*")  # half-written: makes room for the reason
        write_atomically(storage.root / name, text)
        storage.publish(name)


def check_owner(storage: Storage, sweep: str, token: str) -> None:
    """Refuse to go on where the sweep belongs to another driver.

    Raises:
        StaleDriverError: the owner's token is not this one.
    """
    if (storage.read_text(f"{sweep}/{OWNER}") or "").strip() != token:
        raise StaleDriverError(f"{sweep}: another driver has taken over")
