"""Teachers and their banks on a node: found, fetched, or made there, and everywhere the same bytes."""

import functools

import torch

from supersnn import bank, teachers
from supersnn.bank import guide_of
from supersnn.checkpoint import DamagedFile
from supersnn.config import TrainConfig
from supersnn.data import TrainingData
from supersnn.teachers import Teacher, TeacherStore
from supersnn.training import Guide
from tune.shared import Place

TEACHERS, BANKS = "teachers", "banks"


def teacher_at(place: Place, config: TrainConfig, data: TrainingData, device: torch.device | str) -> Teacher:
    """Return the teacher that `config.teacher` describes, on the device; see `TeacherStore.get`."""
    store = TeacherStore(place.root / TEACHERS)
    name, get = f"{TEACHERS}/{teachers.address(config, data)}", functools.partial(store.get, config, data, device)
    try:
        return place.agree(name, get)
    except DamagedFile:
        if place.direct:
            raise
        place.forget(name)  # this node's own copy
        return place.agree(name, get)


def guide_at(place: Place, config: TrainConfig, data: TrainingData, device: torch.device | str) -> Guide | None:
    """Return the guide of a training, None without a teacher; see `bank.guide_for`."""
    if config.teacher.name is None:
        return None
    teacher = teacher_at(place, config, data, device)
    make = functools.partial(guide_of, teacher, config, data, place.root)
    if config.teacher.views == "off":
        return make()
    return place.agree(f"{BANKS}/{bank.address(teacher, data, config)}", make)
