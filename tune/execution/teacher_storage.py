"""Teachers and teacher caches on a node: found, fetched or created, with the same bytes on every node."""

import functools

import torch

from supersnn import teacher_cache, teachers
from supersnn.config import TrainConfig
from supersnn.data import TrainingData
from supersnn.files import DamagedFile
from supersnn.teacher_outputs import TeacherSource
from supersnn.teacher_sources import teacher_source
from supersnn.teachers import Progress, Teacher, TeacherStore
from tune.storage import Storage

TEACHERS, BANKS = "teachers", "banks"


def teacher_at(
    storage: Storage,
    config: TrainConfig,
    data: TrainingData,
    device: torch.device | str,
    progress: Progress | None = None,
) -> Teacher:
    """Return the teacher that `config.teacher` describes, on the device; see `TeacherStore.get`."""
    store = TeacherStore(storage.root / TEACHERS)
    name, get = (
        f"{TEACHERS}/{teachers.address(config, data)}",
        functools.partial(store.get, config, data, device, progress),
    )
    try:
        return storage.get_or_create(name, get)
    except DamagedFile:
        if not storage.discard_damaged(name):
            raise
        return storage.get_or_create(name, get)


def teacher_source_at(
    storage: Storage, config: TrainConfig, data: TrainingData, device: torch.device | str
) -> TeacherSource | None:
    """Return the source of a training's teacher outputs, None without a teacher; see `teacher_source_for`."""
    if config.teacher.name is None:
        return None
    teacher = teacher_at(storage, config, data, device)
    create = functools.partial(teacher_source, teacher, config, data, storage.root)
    if config.dataset.augment.views == "off":
        return create()
    return storage.get_or_create(f"{BANKS}/{teacher_cache.address(teacher, data, config)}", create)
