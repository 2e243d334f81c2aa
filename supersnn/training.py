"""A training as a generator of epoch reports, without callbacks; its only side effect is the number of threads."""

from collections.abc import Iterable, Iterator

import torch

from supersnn.config import TrainConfig
from supersnn.data import TrainingData
from supersnn.epoch_report import EpochReport, Snapshot
from supersnn.errors import UserError
from supersnn.process_group import check_shards, process_group
from supersnn.shards import Shard
from supersnn.teacher_outputs import TeacherSource
from supersnn.training_state import Training, identity


def train(
    config: TrainConfig,
    data: TrainingData,
    teacher_source: TeacherSource | None = None,
    resume: Snapshot | None = None,
    device: torch.device | str = "cpu",
) -> Iterator[EpochReport]:
    """Train, and yield a report after each epoch.

    A last, incomplete batch is dropped unless it is the only one, because the relational term and batch norm would give
    its images more weight. Weight decay applies to the weights of convolutions and linear layers only. torch's number
    of threads is set to `train.threads`.

    With `train.shards` above 1 each batch is split over so many processes (`supersnn.process_group`), for students that
    are too large or too slow for one device. The training is the same up to rounding: statistics, pairs and means are
    those of the full batch. This process is the first, and evaluates alone; the others run as long as the iteration.

    Args:
        config: the training.
        data: its images.
        teacher_source: required if `config.teacher.name` is set.
        resume: a `snapshot` of the same training to continue from.
        device: to train on; shards use the GPUs from this one on.

    Raises:
        UserError: the architecture is unknown, the device does not support `train.precision`, or `train.shards` does
            not divide the batch or exceeds the GPUs.
        ValueError: `teacher_source` is missing, or `resume` belongs to another training.
    """
    return _reports(train_in_parts(config, data, teacher_source, resume, device))


def _reports(parts: Iterator[EpochReport | None]) -> Iterator[EpochReport]:
    for report in parts:
        if report is not None:
            yield report


def train_in_parts(
    config: TrainConfig,
    data: TrainingData,
    teacher_source: TeacherSource | None = None,
    resume: Snapshot | None = None,
    device: torch.device | str = "cpu",
) -> Iterator[EpochReport | None]:
    """Train as `train`, with a None between reports wherever another training may take its turn in this thread.

    On a GPU each training has a stream of its own, whose work goes on meanwhile.
    """
    device = torch.device(device)
    if config.train.precision != "fp32" and device.type != "cuda":
        raise UserError(
            f"train.precision: {config.train.precision!r} requires a CUDA device, this training runs on "
            f"{device.type}; expected 'fp32'"
        )
    if config.teacher.name is not None and teacher_source is None:
        raise ValueError(f"a training with the teacher {config.teacher.name!r} requires a teacher_source")
    if resume is not None and not is_snapshot_of(resume, config, data):
        raise ValueError("the snapshot to resume from belongs to another configuration or split")
    check_shards(config.train.shards, min(config.train.batch_size, len(data.train)), device)
    return _epochs(config, data, teacher_source, resume, device)


def _epochs(
    config: TrainConfig,
    data: TrainingData,
    teacher_source: TeacherSource | None,
    resume: Snapshot | None,
    device: torch.device,
) -> Iterator[EpochReport | None]:
    with process_group(config.train.shards, device, _worker_loop, (config, data, teacher_source, resume)) as (
        shard,
        proceed,
    ):
        training = Training(config, data, teacher_source, resume, shard)
        try:
            while training.ended is None:
                proceed()
                yield from training.epoch_in_parts()
                yield training.report()
        finally:
            training.release()


def _worker_loop(
    shard: Shard,
    epochs: Iterable[None],
    config: TrainConfig,
    data: TrainingData,
    teacher_source: TeacherSource | None,
    resume: Snapshot | None,
) -> None:
    """Train with another shard, one epoch for every item of `epochs`."""
    training = Training(config, data, teacher_source, resume, shard)
    for _ in epochs:
        for _ in training.steps_in_parts():
            pass


def is_snapshot_of(snapshot: Snapshot, config: TrainConfig, data: TrainingData) -> bool:
    """Return whether a snapshot is of a training with this configuration on these images."""
    return bool(snapshot[1]["training"] == identity(config, data))
