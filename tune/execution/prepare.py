"""Preparation of a sweep: inspect its data sets; train each teacher and cache its outputs, one task per teacher.

Searches share a teacher where nothing that it depends on differs between them. See `preparations.py` for when it is
prepared.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any, Literal, TypeVar

from supersnn import teacher_cache, teachers
from supersnn.config import DatasetConfig, TrainConfig
from supersnn.data import TrainingData, training_data
from supersnn.digests import digest
from supersnn.own_losses import needs as needs_of
from supersnn.records.event_base import Event, now
from supersnn.records.events import DatasetSplit, TeacherCached, TeacherTrained
from supersnn.teacher_cache import TeacherCache
from supersnn.teacher_outputs import output_kinds
from supersnn.teachers import Progress, Teacher, recipe
from tune.description.arms import Arm
from tune.description.searches import PlannedSearch
from tune.execution.device import working_device
from tune.execution.executor import Executor
from tune.execution.failed_teachers import require_none
from tune.execution.preparations import Preparation, PreparationFailed, Prepared
from tune.execution.progress import advanced
from tune.execution.teacher_storage import BANKS, TEACHERS, teacher_at
from tune.notices import Notify, Preparing
from tune.notices import Progress as ProgressNotice
from tune.storage import Storage, storage_at

E = TypeVar("E", bound=Event)


def distinct_splits(searches: Iterable[PlannedSearch]) -> list[PlannedSearch]:
    """Return the first search of each distinct data set and split."""
    first: dict[str, PlannedSearch] = {}
    for search in searches:
        first.setdefault(digest(search.sweep.dataset), search)
    return list(first.values())


def inspect_dataset(search: PlannedSearch, executor: Executor) -> DatasetSplit:
    """Return how the training images of a search are split.

    Raises:
        UserError: the images cannot be loaded.
    """
    split = _now(executor.call(inspect_one, search.arm.base["dataset"]))
    return split.model_copy(update={"label": search.dataset, "replicate": search.replicate})


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
    searches: Mapping[str, PlannedSearch], storage: Storage, executor: Executor, notify: Notify | None = None
) -> Iterator[Prepared]:
    """Yield each teacher of the searches as it becomes ready, trained or found; in the end the driver has them.

    `notify` is told which teachers are not ready yet, and, where they are trained in this process, of each epoch.

    Raises:
        UserError: a teacher cannot be trained or read.
        ExternalError: one has failed; the others are ready.
    """
    missing, look = [], lookup(storage, executor)
    for item in preparations(searches, storage):
        if (found := look(item)) is None:
            missing.append(item)
        else:
            yield found
    left, failed = [item.teacher for item in missing], {}
    if notify is not None and left:
        notify(Preparing(tuple(left)))
    for item, result in executor.tasks(work_of(executor, notify), missing):
        left.remove(item.teacher)
        if notify is not None:
            notify(Preparing(tuple(left)))
        if isinstance(result, Exception):
            failed[item] = PreparationFailed.of(result)
        else:
            yield received(result, storage)
    storage.flush()
    require_none(failed, storage)


def lookup(storage: Storage, executor: Executor) -> Callable[[Preparation], Prepared | None]:
    """Return what finds a preparation that is complete, where the driver sees the workers' files.

    The images of the last data set that was looked at are kept. Workers with GPUs are expected to have caches in bf16:
    what those without it have is left for them to find.
    """
    if not (executor.shares_files_with(storage) and any((storage.root / TEACHERS).glob("*/"))):
        return lambda _: None
    images = lru_cache(maxsize=1)(training_data)

    def find(item: Preparation) -> Prepared | None:
        data = images(DatasetConfig.model_validate(item.config["dataset"]))
        return already_prepared(item, data, "bf16" if executor.gpus else "fp32")

    return find


def work_of(executor: Executor, notify: Notify | None) -> Callable[[Preparation], Prepared]:
    """Return the task of a preparation, which tells of its progress where it runs in this process."""
    return partial(prepare_one, progress=_notifying(notify)) if notify and executor.in_process else prepare_one


def received(result: Prepared, storage: Storage) -> Prepared:
    """Return a worker's result with the driver's time; the driver has a copy of the teacher after `storage.flush`."""
    storage.fetch_later(f"{TEACHERS}/{result.teacher.digest}")
    return replace(result, teacher=_now(result.teacher), cache=result.cache and _now(result.cache))


def _notifying(notify: Notify) -> Progress:
    return lambda what, done, of: notify(ProgressNotice(what, done, of))


def _now(event: E) -> E:
    """Return a worker's event with the driver's time: clocks of nodes differ."""
    return event.model_copy(update={"time": now()})


def preparations(searches: Mapping[str, PlannedSearch], storage: Storage) -> list[Preparation]:
    """Return one preparation a teacher, for all searches that have it, in the order of the first of them."""
    return list(dict.fromkeys(item for items in needs(searches, storage).values() for item in items))


def needs(searches: Mapping[str, PlannedSearch], storage: Storage) -> dict[str, list[Preparation]]:
    """Return the preparations that each search needs, by its name; searches with the same teacher share one."""
    users: dict[str, list[tuple[PlannedSearch, TrainConfig]]] = {}
    for search in searches.values():
        for teacher in search.arm.teachers:
            config = _example(search.arm, teacher)
            users.setdefault(digest(recipe(config)), []).append((search, config))
    found: dict[str, list[Preparation]] = {name: [] for name in searches}
    for sharing in users.values():
        first, config = sharing[0]
        arms = [search.arm for search, _ in sharing]
        item = Preparation(
            config=config.model_dump(mode="json"),
            kinds=output_kinds(
                {term for arm in arms for term in arm.terms},
                {pool for arm in arms for pool in _related(arm, "pool")},
                {str(layers) for arm in arms for layers in _related(arm, "layers")},
                {one for arm in arms for one in _needs(arm)},
            ),
            store=storage.address,
            dataset=first.dataset,
            replicate=first.replicate,
        )
        for search, _ in sharing:
            found[search.name].append(item)
    return found


def _example(arm: Arm, teacher: str) -> TrainConfig:
    """Return a training with this teacher: the teacher's own recipe does not depend on the searched parameters."""
    values = {key: parameter.at(0.0) for key, parameter in arm.parameters.items()}
    return arm.config({**values, "teacher.name": teacher})


def _needs(arm: Arm) -> list[str]:
    """Return what an arm's loss terms of its own need of a teacher."""
    own = arm.base["loss"].get("own", {})
    return [one for term in arm.terms if term in own for one in needs_of(own[term]["term"])]


def _related(arm: Arm, key: str) -> tuple[int | str, ...]:
    """Return the values that a key of an arm's relational term may have."""
    if "relation" not in arm.terms:
        return ()
    parameter = arm.parameters.get(f"loss.relation.{key}")
    values = parameter.categorical if parameter and parameter.categorical else (arm.base["loss"]["relation"][key],)
    return tuple(value if isinstance(value, int) else str(value) for value in values)


def already_prepared(
    item: Preparation, data: TrainingData, precision: Literal["fp32", "bf16"] = "fp32"
) -> Prepared | None:
    """Return the result of a preparation whose teacher and cache are complete, None where something is missing.

    The driver checks it itself, sooner than a worker could start.

    Args:
        item: the preparation.
        data: the teacher's images.
        precision: of the cached outputs, which is that of the workers' devices.
    """
    config, storage = TrainConfig.model_validate(item.config), storage_at(item.store)
    if not (storage.root / TEACHERS / teachers.address(config, data)).exists():
        return None
    teacher = replace(teacher_at(storage, config, data, "cpu"), precision=precision)
    caches = storage.root / BANKS
    cached = config.dataset.augment.views != "off"
    if cached and not teacher_cache.is_complete(caches, teacher, data, config, item.kinds):
        return None
    return _prepared(item, config, data, teacher)


def prepare_one(item: Preparation, progress: Progress | None = None) -> Prepared:
    """Train or find one teacher, and fill its cache, on this worker's device."""
    began = time.perf_counter()
    config = TrainConfig.model_validate(item.config)
    device = working_device()
    data = training_data(config.dataset, device)
    signs = _signs(progress)
    teacher = teacher_at(storage_at(item.store), config, data, device, signs)
    taught = time.perf_counter()
    prepared = _prepared(item, config, data, teacher, signs)
    return prepared.taking(taught - began, time.perf_counter() - taught)


def _signs(progress: Progress | None) -> Progress:
    """Return what tells of progress, and of signs of it."""

    def note(what: str, done: int, of: int) -> None:
        advanced()
        if progress is not None:
            progress(what, done, of)

    return note


def _prepared(
    item: Preparation, config: TrainConfig, data: TrainingData, teacher: Teacher, progress: Progress | None = None
) -> Prepared:
    """Fill a teacher's cache, and return the result of its preparation."""
    storage, name, views = storage_at(item.store), str(config.teacher.name), config.dataset.augment.views
    place: dict[str, Any] = {"dataset": item.dataset, "replicate": item.replicate}
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
        **place,
    )
    if views == "off":
        return Prepared(trained, None)
    cache = storage.get_or_create(
        f"{BANKS}/{teacher_cache.address(teacher, data, config)}",
        lambda: TeacherCache.open(storage.root / BANKS, teacher, data, config, item.kinds, progress),
    )
    cached = TeacherCached(
        teacher=name, digest=cache.digest, views=views, seconds=cache.seconds, bytes=cache.bytes, **place
    )
    return Prepared(trained, cached)
