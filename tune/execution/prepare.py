"""Preparation of a sweep: inspect its data set; train each teacher and cache its outputs, one task per teacher."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from supersnn import teacher_cache, teachers
from supersnn.config import DatasetConfig, TrainConfig
from supersnn.data import TrainingData, training_data
from supersnn.records.events import DatasetSplit, Event, TeacherCached, TeacherTrained, now
from supersnn.teacher_cache import TeacherCache
from supersnn.teacher_outputs import OutputKind, output_kinds
from supersnn.teachers import Progress, Teacher
from tune.description.arms import Arm
from tune.execution.device import working_device
from tune.execution.executor import Executor
from tune.execution.teacher_storage import BANKS, TEACHERS, teacher_at
from tune.notices import Notify, Preparing
from tune.notices import Progress as ProgressNotice
from tune.storage import Storage, storage_at

E = TypeVar("E", bound=Event)


@dataclass(frozen=True)
class Preparation:
    """The task for one teacher: plain values only, so that it travels anywhere.

    Attributes:
        config: a training with this teacher.
        kinds: the teacher outputs that any arm needs.
        store: the address of the storage that driver and workers share.
    """

    config: dict[str, Any]
    kinds: tuple[OutputKind, ...]
    store: str


@dataclass(frozen=True)
class Prepared:
    """The result of a preparation: its events, `cache` None where the teacher runs beside the training."""

    teacher: TeacherTrained
    cache: TeacherCached | None

    def events(self) -> Iterator[TeacherTrained | TeacherCached]:
        """Yield the events for the journal."""
        yield self.teacher
        if self.cache is not None:
            yield self.cache


def inspect_dataset(arms: Mapping[str, Arm], executor: Executor) -> DatasetSplit:
    """Return how the sweep's training images are split.

    Raises:
        UserError: the images cannot be loaded.
    """
    return _now(executor.call(inspect_one, next(iter(arms.values())).base["dataset"]))


def inspect_one(dataset: Mapping[str, Any]) -> DatasetSplit:
    """Load a data set's training images, and return their split and sizes."""
    config = DatasetConfig.model_validate(dataset)
    data = training_data(config)
    return DatasetSplit(
        dataset=config.name,
        split=data.fingerprint,
        train=len(data.train),
        validation=len(data.validation),
        classes=len(data.classes),
    )


def prepare(
    arms: Mapping[str, Arm], storage: Storage, executor: Executor, notify: Notify | None = None
) -> Iterator[Prepared]:
    """Yield each teacher of the arms as it becomes ready, trained or found; the driver has a copy of it then.

    `notify` is told which teachers are not ready yet, and, where they are trained in this process, of each epoch.

    Raises:
        UserError: a teacher cannot be trained or read.
    """
    missing = preparations(arms, storage)
    if missing and executor.shares_files_with(storage) and any((storage.root / TEACHERS).glob("*/")):
        data = training_data(DatasetConfig.model_validate(missing[0].config["dataset"]))  # the same for all arms
        results = [(item, already_prepared(item, data)) for item in missing]
        missing = [item for item, prepared in results if prepared is None]
        yield from (prepared for _, prepared in results if prepared is not None)
    left = [str(item.config["teacher"]["name"]) for item in missing]
    if notify is not None and left:
        notify(Preparing(tuple(left)))
    work = partial(prepare_one, progress=_notifying(notify)) if notify and executor.in_process else prepare_one
    for _, result in executor.tasks(work, missing):
        if isinstance(result, Exception):
            raise result
        left.remove(result.teacher.name)
        if notify is not None:
            notify(Preparing(tuple(left)))
        storage.fetch(f"{TEACHERS}/{result.teacher.digest}")
        yield replace(result, teacher=_now(result.teacher), cache=result.cache and _now(result.cache))


def _notifying(notify: Notify) -> Progress:
    return lambda what, done, of: notify(ProgressNotice(what, done, of))


def _now(event: E) -> E:
    """Return a worker's event with the driver's time: clocks of nodes differ."""
    return event.model_copy(update={"time": now()})


def preparations(arms: Mapping[str, Arm], storage: Storage) -> list[Preparation]:
    """Return one preparation a teacher, for all arms that use it."""
    users = {teacher: [arm for arm in arms.values() if teacher in arm.teachers] for teacher in _teachers(arms)}
    return [
        Preparation(
            config=_example(users_of[0], teacher).model_dump(mode="json"),
            kinds=output_kinds(
                {t for arm in users_of for t in arm.terms},
                {pool for arm in users_of for pool in _related(arm, "pool")},
                {str(layers) for arm in users_of for layers in _related(arm, "layers")},
            ),
            store=storage.address,
        )
        for teacher, users_of in users.items()
    ]


def _teachers(arms: Mapping[str, Arm]) -> list[str]:
    """Return the teachers of all arms, each once, in order of appearance."""
    return list(dict.fromkeys(teacher for arm in arms.values() for teacher in arm.teachers))


def _example(arm: Arm, teacher: str) -> TrainConfig:
    """Return a training with this teacher: the teacher's own recipe does not depend on the searched parameters."""
    values = {key: parameter.at(0.0) for key, parameter in arm.parameters.items()}
    return arm.config({**values, "teacher.name": teacher})


def _related(arm: Arm, key: str) -> tuple[int | str, ...]:
    """Return the values that a key of an arm's relational term may have."""
    if "relation" not in arm.terms:
        return ()
    parameter = arm.parameters.get(f"loss.relation.{key}")
    values = parameter.categorical if parameter and parameter.categorical else (arm.base["loss"]["relation"][key],)
    return tuple(value if isinstance(value, int) else str(value) for value in values)


def already_prepared(item: Preparation, data: TrainingData) -> Prepared | None:
    """Return the result of a preparation whose teacher and cache are complete, None where something is missing.

    The driver checks it itself, sooner than a worker could start; `data` are the teacher's images.
    """
    config, storage = TrainConfig.model_validate(item.config), storage_at(item.store)
    if not (storage.root / TEACHERS / teachers.address(config, data)).exists():
        return None
    teacher = teacher_at(storage, config, data, "cpu")
    caches = storage.root / BANKS
    cached = config.dataset.augment.views != "off"
    if cached and not teacher_cache.is_complete(caches, teacher, data, config, item.kinds):
        return None
    return _prepared(item, config, data, teacher)


def prepare_one(item: Preparation, progress: Progress | None = None) -> Prepared:
    """Train or find one teacher, and fill its cache, on this worker's device."""
    config = TrainConfig.model_validate(item.config)
    device = working_device()
    data = training_data(config.dataset, device)
    teacher = teacher_at(storage_at(item.store), config, data, device, progress)
    return _prepared(item, config, data, teacher, progress)


def _prepared(
    item: Preparation, config: TrainConfig, data: TrainingData, teacher: Teacher, progress: Progress | None = None
) -> Prepared:
    """Fill a teacher's cache, and return the result of its preparation."""
    storage, name, views = storage_at(item.store), str(config.teacher.name), config.dataset.augment.views
    trained = TeacherTrained(
        name=name,
        digest=teacher.digest,
        family=teacher.family,
        parameters=teacher.parameters,
        val_accuracy=teacher.val_accuracy,
        epochs=config.teacher.epochs,
        seconds=teacher.seconds,
        split=data.fingerprint,
        known_split=teacher.known_split,
    )
    if views == "off":
        return Prepared(trained, None)
    cache = storage.get_or_create(
        f"{BANKS}/{teacher_cache.address(teacher, data, config)}",
        lambda: TeacherCache.open(storage.root / BANKS, teacher, data, config, item.kinds, progress),
    )
    cached = TeacherCached(teacher=name, digest=cache.digest, views=views, seconds=cache.seconds, bytes=cache.bytes)
    return Prepared(trained, cached)
