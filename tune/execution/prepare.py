"""Before a trial needs them: the images are found, every teacher is trained and its bank filled, a task each."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from supersnn import teacher_cache, teachers
from supersnn.config import DatasetConfig, TrainConfig
from supersnn.data import TrainingData, training_data
from supersnn.records.events import DatasetSplit, TeacherCached, TeacherTrained
from supersnn.teacher_cache import TeacherCache
from supersnn.teacher_outputs import OutputKind, output_kinds
from supersnn.teachers import Teacher
from tune.description.arms import Arm
from tune.execution.executor import Executor
from tune.execution.teacher_storage import BANKS, TEACHERS, teacher_at
from tune.storage import Storage, storage_at

POOL = "loss.relation.pool"


@dataclass(frozen=True)
class Preparation:
    """One teacher, and all that the arms will ask of it: plain values only, so that it travels anywhere.

    `store` is the address of the storage that driver and workers share.
    """

    config: dict[str, Any]
    kinds: tuple[OutputKind, ...]
    store: str


@dataclass(frozen=True)
class Prepared:
    """A teacher that is ready, and its cache where it has one."""

    teacher: TeacherTrained
    cache: TeacherCached | None

    def events(self) -> Iterator[TeacherTrained | TeacherCached]:
        """Yield the journal's events."""
        yield self.teacher
        if self.cache is not None:
            yield self.cache


def inspect_dataset(arms: Mapping[str, Arm], executor: Executor) -> DatasetSplit:
    """Return the fields of the journal's `data` event: how the sweep's images are cut.

    Raises:
        UserError: the images cannot be had.
    """
    dataset = next(iter(arms.values())).base["dataset"]
    if executor.here:
        return look_one(dataset)
    ((_, seen),) = executor.tasks(look_one, [dataset])
    if isinstance(seen, Exception):
        raise seen
    return seen


def look_one(dataset: dict[str, Any]) -> DatasetSplit:
    """Load a data set's training images, and tell their split and numbers."""
    config = DatasetConfig.model_validate(dataset)
    data = training_data(config)
    numbers = {"train": len(data.train), "validation": len(data.validation), "classes": len(data.classes)}
    return DatasetSplit(dataset=config.name, split=data.fingerprint, **numbers)


def prepare(arms: Mapping[str, Arm], storage: Storage, executor: Executor) -> Iterator[Prepared]:
    """Yield each teacher of the arms, trained or found, as it becomes ready; the driver then has it too.

    Raises:
        UserError: a teacher cannot be had.
    """
    items = preparations(arms, storage)
    missing = items
    if items and executor.here and storage.direct and any((storage.root / TEACHERS).glob("*/")):
        data = training_data(DatasetConfig.model_validate(items[0].config["dataset"]))  # the same for all arms
        there = [(item, found(item, data)) for item in items]
        missing = [item for item, teaching in there if teaching is None]
        yield from (teaching for _, teaching in there if teaching is not None)
    for _, done in executor.tasks(prepare_one, missing):
        if isinstance(done, Exception):
            raise done
        storage.fetch(f"{TEACHERS}/{done.teacher.digest}")
        yield done


def preparations(arms: Mapping[str, Arm], storage: Storage) -> list[Preparation]:
    """Return one preparation a teacher, with what any arm may ask of it."""
    asking = {teacher: [arm for arm in arms.values() if teacher in arm.teachers] for teacher in _teachers(arms)}
    return [
        Preparation(
            config=_example(with_it[0], teacher).model_dump(mode="json"),
            kinds=output_kinds({t for arm in with_it for t in arm.terms}, {p for arm in with_it for p in _pools(arm)}),
            store=storage.address,
        )
        for teacher, with_it in asking.items()
    ]


def _teachers(arms: Mapping[str, Arm]) -> list[str]:
    """The teachers of all arms, each once, in their order."""
    return list(dict.fromkeys(teacher for arm in arms.values() for teacher in arm.teachers))


def _example(arm: Arm, teacher: str) -> TrainConfig:
    """A training with this teacher: the teacher's own recipe does not depend on what is searched."""
    values = {key: parameter.at(0.0) for key, parameter in arm.parameters.items()}
    return arm.config({**values, "teacher.name": teacher})


def _pools(arm: Arm) -> list[int]:
    """The pooled sides of the relational term that an arm may ask for."""
    if "relation" not in arm.terms:
        return []
    parameter = arm.parameters.get(POOL)
    choices = parameter.categorical if parameter and parameter.categorical else (arm.base["loss"]["relation"]["pool"],)
    return [int(str(choice)) for choice in choices]


def found(item: Preparation, data: TrainingData) -> Prepared | None:
    """Return what a preparation comes to where teacher and bank are there, None where something is left to do.

    A driver finds out by itself, sooner than a worker is there to do it; `data` are the teacher's images.
    """
    config, storage = TrainConfig.model_validate(item.config), storage_at(item.store)
    if not (storage.root / TEACHERS / teachers.address(config, data)).exists():
        return None
    teacher = teacher_at(storage, config, data, "cpu")
    banks = storage.root / BANKS
    cached = config.dataset.augment.views != "off"
    if cached and not teacher_cache.is_complete(banks, teacher, data, config, item.kinds):
        return None
    return _teaching(item, config, data, teacher)


def prepare_one(item: Preparation) -> Prepared:
    """Train or find one teacher, and fill its bank, on this worker's device."""
    config = TrainConfig.model_validate(item.config)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    data = training_data(config.dataset, device)
    return _teaching(item, config, data, teacher_at(storage_at(item.store), config, data, device))


def _teaching(item: Preparation, config: TrainConfig, data: TrainingData, teacher: Teacher) -> Prepared:
    """What a teacher came to, after its bank is filled."""
    storage, name = storage_at(item.store), str(config.teacher.name)
    fields: dict[str, Any] = {
        "name": name,
        "digest": teacher.digest,
        "family": teacher.family,
        "parameters": teacher.parameters,
        "val_accuracy": teacher.val_accuracy,
        "epochs": config.teacher.epochs,
        "seconds": teacher.seconds,
        "split": data.fingerprint,
        "known_split": teacher.known_split,
    }
    if config.dataset.augment.views == "off":
        return Prepared(TeacherTrained(**fields), None)
    filled = storage.get_or_create(
        f"{BANKS}/{teacher_cache.address(teacher, data, config)}",
        lambda: TeacherCache.open(storage.root / BANKS, teacher, data, config, item.kinds),
    )
    about: dict[str, Any] = {"teacher": name, "digest": filled.digest, "views": config.dataset.augment.views}
    return Prepared(TeacherTrained(**fields), TeacherCached(**about, seconds=filled.seconds, bytes=filled.bytes))
