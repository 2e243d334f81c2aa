"""What a sweep will take, measured before it runs: the time of an epoch, memory, and the sizes of what it stores."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from supersnn.config import TrainConfig
from supersnn.data import DataSummary
from supersnn.networks.base import ImageShape
from supersnn.step_time import StepTime, cache_bytes, measure_step
from supersnn.teachers import recipe
from tune.description.arms import Arm
from tune.description.duration import EpochTimes, seconds_by_part
from tune.description.replication import searches_per_arm, teachers_per_architecture
from tune.description.sweep import ResourcesConfig, SweepConfig
from tune.execution.device import working_device
from tune.execution.nodes import Node, slots
from tune.execution.preparations import Preparation

MIDDLE = 0.5
"""The place in each range at which a training is timed."""
WEIGHT_BYTES, TRAINED_COPIES, EXPORTED_COPIES = 4, 3, 3
"""Of a weight; copies of the weights in a checkpoint (weights, momentum, one more while it is written), and in an
export folder (weights, NIR, ONNX)."""


@dataclass(frozen=True)
class TimedTraining:
    """A training to be timed: of a student in an arm, or of a teacher. Plain values, so that it travels anywhere."""

    kind: str
    name: str
    config: dict[str, Any]


@dataclass(frozen=True)
class Measured:
    """What was measured, on which device, in how many slots.

    `students` by arm, one for each of its student architectures; `teachers` by name; `slots` is None where it depends
    on a cluster that was not asked.
    """

    students: dict[str, list[StepTime]] = field(default_factory=dict)
    teachers: dict[str, StepTime] = field(default_factory=dict)
    slots: int | None = None
    device: str = "cpu"


def trainings(arms: Mapping[str, Arm], teachers: Sequence[Preparation]) -> list[TimedTraining]:
    """Return what is to be timed: each arm's student architectures in the middle of its space, and each teacher."""
    found = [
        TimedTraining("student", arm.name, _middle(arm, architecture).model_dump(mode="json"))
        for arm in arms.values()
        for architecture in arm.students
    ]
    return found + [TimedTraining("teacher", _name(item), _recipe(item)) for item in teachers]


def time_trainings(items: list[TimedTraining], shape: ImageShape, classes: int, seconds: float) -> list[StepTime]:
    """Return the times of some trainings on `working_device()`; equal ones are timed once.

    Args:
        items: the trainings.
        shape, classes: of the images.
        seconds: for all of them together, as far as one step each allows.
    """
    device = working_device()
    known: dict[str, StepTime] = {}
    configs = [TrainConfig.model_validate(item.config) for item in items]
    keys = [_cost_key(config) for config in configs]
    each = seconds / max(1, len(set(keys)))
    for key, config in zip(keys, configs, strict=True):
        if key not in known:
            known[key] = measure_step(config, shape, classes, device, each)
    return [known[key] for key in keys]


def measured(items: list[TimedTraining], times: list[StepTime], slots_found: int | None) -> Measured:
    """Return the times by arm and by teacher."""
    students: dict[str, list[StepTime]] = {}
    for item, time in zip(items, times, strict=True):
        if item.kind == "student":
            students.setdefault(item.name, []).append(time)
    teachers = {item.name: time for item, time in zip(items, times, strict=True) if item.kind == "teacher"}
    return Measured(students, teachers, slots_found, times[0].device)


def resources_here(sweep: SweepConfig) -> ResourcesConfig:
    """Return the resources of a trial on this machine."""
    return sweep.resources.resolved(sweep.train.shards, [torch.cuda.device_count()])


def slots_here(sweep: SweepConfig) -> int:
    """Return how many trials run at once on a Ray of this machine's own."""
    need = resources_here(sweep)
    if need.trials_at_once is not None:
        return need.trials_at_once
    resources = {"CPU": float(os.cpu_count() or 1), "GPU": float(torch.cuda.device_count())}
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    accelerator = {f"accelerator_type:{need.accelerator}": 1.0} if need.accelerator else {}
    return slots([Node("", "", {**resources, **accelerator, "memory": float(memory)}, need.labels)], need)


def estimate(
    sweep: SweepConfig, arms: Mapping[str, Arm], teachers: Sequence[Preparation], data: DataSummary, found: Measured
) -> dict[str, Any]:
    """Return what a sweep will take as plain values: `slots`, `hours`, `memory`, `disk`, `caches`, `timed`.

    `hours` has the parts of the sweep and the total, upper bounds; None without slots. Sizes are in bytes. `timed` is
    what they follow from.
    """
    caches = cache_sizes(teachers, data)
    times = _epoch_times(teachers, data, found)
    parts = seconds_by_part(sweep, arms, times, found.slots) if found.slots else None
    return {
        "slots": found.slots,
        "hours": parts and {name: seconds / 3600 for name, seconds in parts.items()},
        "memory": _memory(data, found),
        "disk": _disk(sweep, caches, found),
        "caches": caches,
        "timed": {
            "device": found.device,
            "epoch_s": dict(times.students),
            "teacher_epoch_s": dict(times.teachers),
            "steps": {name: [asdict(one) for one in steps] for name, steps in found.students.items()},
        },
    }


def cache_sizes(teachers: Sequence[Preparation], data: DataSummary) -> dict[str, int]:
    """Return the size in bytes of each teacher's cache, by teacher."""
    assert data.shape is not None
    shape, classes, images = data.shape, len(data.classes), data.train
    configs = {_name(item): (TrainConfig.model_validate(item.config), item.kinds) for item in teachers}
    return {name: cache_bytes(config, shape, classes, kinds, images) for name, (config, kinds) in configs.items()}


def _epoch_times(prepared: Sequence[Preparation], data: DataSummary, found: Measured) -> EpochTimes:
    train, validation = data.train, data.validation
    students = {
        name: sum(one.epoch_s(train, validation) for one in steps) / len(steps)
        for name, steps in found.students.items()
    }
    teachers = {name: step.epoch_s(train, validation) for name, step in found.teachers.items()}
    views = {_name(item): _views(item) for item in prepared}
    caches = {name: views[name] * train * step.image_s for name, step in found.teachers.items()}
    return EpochTimes(students, teachers, caches)


def _views(item: Preparation) -> int:
    views = item.config["dataset"]["augment"]["views"]
    return 0 if views == "off" else int(views)


def _memory(data: DataSummary, found: Measured) -> dict[str, Any]:
    """Return the bytes that one trial takes: what was measured, and the images, which stay in memory."""
    assert data.shape is not None
    images = (data.train + data.validation) * data.shape.channels * data.shape.side**2
    most = max(step.memory for steps in found.students.values() for step in steps)
    return {"trial": most + images, "images": images, "of": "GPU" if found.device == "cuda" else "process"}


def _disk(sweep: SweepConfig, caches: Mapping[str, int], found: Measured) -> dict[str, int]:
    """Return the bytes that the store takes, at most.

    Teachers, those that are trained again for final runs too, and their caches; checkpoints while trials run; the
    weights of final runs; export folders.

    Args:
        sweep: with one data set.
        caches: the size of a teacher's cache, by teacher.
        found: the sizes of networks.
    """
    largest = {name: max(step.parameters for step in steps) for name, steps in found.students.items()}
    each = teachers_per_architecture(sweep) * (1 if sweep.verify.train_on == "train" else 2)
    parts = {
        "teachers": each * sum(step.parameters for step in found.teachers.values()) * WEIGHT_BYTES,
        "caches": each * sum(caches.values()),
        "final_runs": sum(largest.values()) * WEIGHT_BYTES * searches_per_arm(sweep) * sweep.verify.seeds,
        "checkpoints": max(largest.values()) * WEIGHT_BYTES * TRAINED_COPIES * (found.slots or 1),
        "exports": (sum(largest.values()) + max(largest.values())) * WEIGHT_BYTES * EXPORTED_COPIES,
    }
    return {**parts, "total": sum(parts.values())}


def _middle(arm: Arm, architecture: str) -> TrainConfig:
    values = {key: parameter.at(MIDDLE) for key, parameter in arm.parameters.items()}
    if "student.architecture" in values:
        values["student.architecture"] = architecture
    exists = {key: value for key, value in values.items() if arm.parameters[key].when is None}
    return arm.config(exists)


def _name(item: Preparation) -> str:
    return str(item.config["teacher"]["name"])


def _recipe(item: Preparation) -> dict[str, Any]:
    return recipe(TrainConfig.model_validate(item.config)).model_dump(mode="json")


def _cost_key(config: TrainConfig) -> str:
    """Return what the time of a training's step depends on, as text."""
    plain = config.model_dump(mode="json")
    loop = {key: value for key, value in plain["train"].items() if key != "epochs"}
    relation = {key: plain["loss"]["relation"][key] for key in ("kind", "time", "pool")}
    kind = (plain["student"], plain["neuron"]["kind"], plain["neuron"]["surrogate"], loop, plain["dataset"]["augment"])
    return repr((*kind, config.loss.terms_on(), relation, config.teacher.name if config.loss.terms_on() else None))
