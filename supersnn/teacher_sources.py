"""Sources of teacher outputs for a training: the teacher itself (online), or a cache of its outputs."""

from collections.abc import Collection
from pathlib import Path

import torch
from torch import Tensor

from supersnn.config import TrainConfig
from supersnn.data import TrainingData
from supersnn.losses import TeacherOutputs
from supersnn.teacher_cache import TeacherCache
from supersnn.teacher_outputs import OutputKind, TeacherSource, as_teacher_outputs, compute_outputs, needed_outputs
from supersnn.teachers import Progress, Teacher, TeacherStore


class OnlineTeacher:
    """A `TeacherSource` that runs the teacher in the training loop, for views that change every epoch."""

    def __init__(self, teacher: Teacher, kinds: Collection[OutputKind]) -> None:
        self._network, self._kinds = teacher.network, tuple(kinds)

    def __call__(self, position: Tensor, view: int, images: Tensor) -> TeacherOutputs:
        """Return the outputs for the images; see `TeacherSource`."""
        del position, view
        return as_teacher_outputs(compute_outputs(self._network, images, self._kinds))


def teacher_source_for(
    config: TrainConfig,
    data: TrainingData,
    store: Path,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> TeacherSource | None:
    """Return the source of teacher outputs for a training, None without a teacher.

    A teacher or cached outputs that are not stored yet are trained or computed.

    Args:
        config: of the student's training.
        data: its images.
        store: the folder with `teachers` and `banks` (the caches).
        device: for training and running the teacher.
        progress: called after every epoch of the teacher's training and every view of the cache.
    """
    if config.teacher.name is None:
        return None
    teacher = TeacherStore(store / "teachers").get(config, data, device, progress)
    return teacher_source(teacher, config, data, store, progress)


def teacher_source(
    teacher: Teacher, config: TrainConfig, data: TrainingData, store: Path, progress: Progress | None = None
) -> TeacherSource:
    """Return the source of a teacher's outputs for a training; see `teacher_source_for`."""
    kinds = needed_outputs(config.loss)
    if config.dataset.augment.views == "off":
        return OnlineTeacher(teacher, kinds)
    return TeacherCache.open(store / "banks", teacher, data, config, kinds, progress)
