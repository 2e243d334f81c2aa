"""A trial in a worker: one training a seed, with a checkpoint from time to time, at rungs and at its end."""

import os
import platform
import traceback
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from weakref import WeakValueDictionary

from supersnn import checkpoint
from supersnn.config import AugmentConfig, DatasetConfig, TrainConfig
from supersnn.config_model import parse, with_values
from supersnn.data import TrainingData, training_data
from supersnn.epoch_report import Snapshot
from supersnn.files import write_atomically
from supersnn.gpus import gpu_facts
from supersnn.nvml import GpuReadings
from supersnn.records.metrics import with_means
from supersnn.training import is_snapshot_of, train_in_parts
from tune.execution.checkpoints import CheckpointWriter, Patience, checkpoint_path, stored_checkpoint
from tune.execution.device import working_device
from tune.execution.teacher_storage import teacher_source_at
from tune.search.messages import NO_SPACE, OWNER, Job, Report, traceback_name
from tune.storage import Storage, storage_at

_HELD = 2**29
"""Bytes of images that are held for the next trials, beside those of the running ones."""


class StaleDriverError(RuntimeError):
    """Another driver has taken over the sweep: this worker must write nothing more."""


@dataclass(frozen=True)
class Repeated:
    """A trial gets on, but has nothing new: an epoch was reported already, and is trained or read once more."""

    epoch: int


class TrialRunner:
    """Runs trials in this process, in turns or one after another; images stay loaded between trials.

    Images are held as long as a training holds them, and those that were asked for last up to `_HELD` bytes, the very
    last in any case. Trials whose splits are the same share them, however they are augmented.
    """

    def __init__(self, device: str | None = None) -> None:
        """Run on a device, by default the one that `tune.execution.device` has."""
        self.device = device or working_device()
        self._loaded: WeakValueDictionary[DatasetConfig, TrainingData] = WeakValueDictionary()
        self._last: list[TrainingData] = []
        self._patience = Patience()

    def data(self, config: DatasetConfig) -> TrainingData:
        """Return the training images of a configuration, on this worker's device."""
        key = config.model_copy(update={"augment": AugmentConfig()})  # which is done later
        if (found := self._loaded.get(key)) is None:
            found = self._loaded[key] = training_data(config, self.device)
        self._last = list(_newest([found, *(one for one in self._last if one is not found)], _HELD))
        return found

    def run(self, job: Job) -> Generator[Report]:
        """Yield the reports of a job, and nothing else; see `run_in_parts`."""
        with closing(self.run_in_parts(job)) as parts:
            yield from (part for part in parts if isinstance(part, Report))

    def run_in_parts(self, job: Job) -> Generator[Report | Repeated | None]:
        """Yield the reports of a job's epochs after the first `job.reported`.

        The training resumes from the checkpoint of an earlier worker. Epochs after it that were reported already are
        trained again, with the same results, and not reported again: each is a `Repeated`. The report that ends the
        trial is always yielded, because the driver may have missed it. It is in a checkpoint by then, and so is that of
        a rung.

        Between reports there is a None wherever another job may take its turn in this thread.

        With several seeds the epoch number counts on, and the last epoch of each seed has, beside its own metrics,
        their means over the seeds so far, see `supersnn.records.metrics.with_means`.

        Raises:
            StaleDriverError: another driver has taken over the sweep.
        """
        storage, current = storage_at(job.store), True
        storage.evict(job.folder)  # unpublished files of a worker that was killed on this node
        try:
            place: dict[str, str] | None = place_of(self.device)
            with closing(self._seeds(parse(TrainConfig, job.config, job.key), job, storage)) as reports:
                for report in reports:
                    if not isinstance(report, Report):
                        yield report
                        continue
                    yield replace(report, place=place)
                    place = None
        except StaleDriverError:
            current = False  # a worker of the other driver may use this node's copy
            raise
        except Exception:
            _write_traceback(storage, f"{job.folder}/{traceback_name(job.attempt)}")
            raise
        finally:
            if current:
                storage.evict(job.folder)

    def _seeds(self, config: TrainConfig, job: Job, storage: Storage) -> Generator[Report | Repeated | None]:
        finals: list[dict[str, float]] = []
        for position, seed in enumerate(job.seeds):
            seeded = with_values(config, {"seed": seed})
            with closing(self._epochs(seeded, job, storage)) as reports:
                for report in reports:
                    if report is None:
                        yield None
                        continue
                    metrics, ended = report.metrics, report.ended
                    if ended == "finished":
                        finals.append(metrics)
                        if len(job.seeds) > 1:
                            metrics = with_means(metrics, finals)
                        if position < len(job.seeds) - 1:
                            ended = None
                    epoch = position * config.train.epochs + report.epoch
                    if epoch > job.reported or ended is not None:
                        yield Report(epoch, metrics, ended)
                    else:
                        yield Repeated(epoch)
                    if ended is not None:
                        return

    def _epochs(self, config: TrainConfig, job: Job, storage: Storage) -> Generator[Report | None]:
        """Yield all epochs of one training: those of its checkpoint, then the ones trained now."""
        name = checkpoint_path(Path(job.folder), config.seed).as_posix()
        resume, data = stored_checkpoint(storage, name), self.data(config.dataset)
        if resume is not None and not is_snapshot_of(resume, config, data):
            resume = None  # left behind by another training under this name
        if resume is not None:
            history, ended = resume[1]["history"], resume[1]["ended"]
            for epoch, metrics in enumerate(history, start=1):
                yield Report(epoch, metrics, ended if epoch == len(history) else None)
            if ended is not None:
                return
        teacher_source = teacher_source_at(storage, config, data, self.device)

        def write(snapshot: Snapshot) -> None:
            check_owner(storage, job.sweep, job.token)
            checkpoint.save(storage.root / name, *snapshot)
            storage.publish(name)

        readings = GpuReadings(self.device)
        with CheckpointWriter(write, job.save_every, self._patience) as writer:
            for report in train_in_parts(config, data, teacher_source, resume, self.device):
                if report is None:
                    yield None
                    continue
                writer.take(report, wait=report.ended is not None or report.epoch in job.rungs)
                yield Report(report.epoch, report.metrics | readings.take(), report.ended)


def _newest(data: Iterable[TrainingData], most: int) -> Iterator[TrainingData]:
    """Yield data until they have more than so many bytes together; the first in any case."""
    total = 0
    for number, one in enumerate(data):
        total += one.train.pixels.nbytes + one.validation.pixels.nbytes
        if number > 0 and total > most:
            return
        yield one


def place_of(device: str) -> dict[str, str]:
    """Return where this process trains: its node, its process and its GPU."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    facts = gpu_facts(device)
    number = {"gpu_number": visible} if facts and visible else {}
    return {"node": platform.node(), "process": str(os.getpid()), **facts, **number}


def _write_traceback(storage: Storage, name: str) -> None:
    """Publish the traceback of the current exception, for people."""
    text = traceback.format_exc()
    with suppress(OSError):
        if NO_SPACE in text:
            storage.remove(name.rpartition("/")[0], ".checkpoint-*")  # partial files, to free space for the traceback
        write_atomically(storage.root / name, text)
        storage.publish(name)


def check_owner(storage: Storage, sweep: str, token: str) -> None:
    """Check that the sweep still belongs to the driver with this token.

    Raises:
        StaleDriverError: it belongs to another driver.
    """
    if (storage.read_text(f"{sweep}/{OWNER}") or "").strip() != token:
        raise StaleDriverError(f"{sweep}: another driver has taken over")
