"""Teachers and caches before a search: existing ones are found by the driver, only missing ones are a worker's task."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from supersnn.config import DatasetConfig
from supersnn.data import training_data
from supersnn.records.event_base import now
from supersnn.records.events import DatasetSplit, TeacherCached, TeacherTrained
from tune.description.searches import PlannedSearch, planned
from tune.description.sweep import SweepConfig
from tune.execution import prepare as preparing
from tune.execution.local import LocalExecutor
from tune.execution.preparations import Prepared
from tune.execution.prepare import already_prepared, inspect_dataset, preparations, prepare, prepare_one
from tune.remote_storage import RemoteStorage
from tune.storage import Storage
from tune.store import Store

SWEEP: dict[str, Any] = {
    "name": "s",
    "dataset": {"name": "digits", "images": 200},
    "student": {"architecture": "resnet8"},
    "teacher": {"epochs": 1, "views": 2},
    "train": {"epochs": 1},
    "arms": {"homogeneous": {"teachers": ["resnet8"]}},
}


class CountingExecutor(LocalExecutor):
    """Counts the tasks that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def tasks(self, function: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
        self.count += len(items)
        return super().tasks(function, items)


def searches(**teacher: Any) -> dict[str, PlannedSearch]:
    return planned(SweepConfig.model_validate({**SWEEP, "teacher": {**SWEEP["teacher"], **teacher}}))


def run_prepare(store: Path, **teacher: Any) -> tuple[int, list[Prepared]]:
    """Return the number of tasks and the results."""
    executor = CountingExecutor()
    results = list(prepare(searches(**teacher), Store.at(store).storage, executor))
    return executor.count, results


def fields(event: TeacherTrained | TeacherCached | None) -> dict[str, Any]:
    return {} if event is None else event.model_dump(exclude={"time", "took", "gpus"})


def test_inspect_dataset() -> None:
    split = inspect_dataset(searches()["homogeneous"], LocalExecutor())
    assert isinstance(split, DatasetSplit)
    assert (split.dataset, split.train, split.validation, split.classes) == ("digits", 170, 30, 10)
    assert split.split


def test_prepare_gives_workers_only_what_is_missing(tmp_path: Path) -> None:
    (item,) = preparations(searches(), Store.at(tmp_path).storage)
    data = training_data(DatasetConfig.model_validate(item.config["dataset"]))
    assert already_prepared(item, data) is None
    tasks, (first,) = run_prepare(tmp_path)
    assert tasks == 1
    assert first.cache is not None
    assert [event.event for event in first.events()] == ["teacher", "bank"]
    assert (first.teacher.name, first.cache.teacher, first.cache.views) == ("resnet8", "resnet8", 2)
    assert first.teacher.split == inspect_dataset(searches()["homogeneous"], LocalExecutor()).split
    tasks, (second,) = run_prepare(tmp_path)
    assert tasks == 0
    assert (fields(second.teacher), fields(second.cache)) == (fields(first.teacher), fields(first.cache))
    next((tmp_path / "banks").rglob("*.npy")).unlink()
    assert already_prepared(item, data) is None
    tasks, (third,) = run_prepare(tmp_path)
    assert tasks == 1
    assert fields(third.teacher) == fields(first.teacher)


def test_a_cache_that_workers_with_gpus_have_is_found_in_their_precision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_prepare(tmp_path)
    monkeypatch.setattr(CountingExecutor, "gpus", 1.0)
    monkeypatch.setattr("supersnn.teachers.gpu_precision", lambda _device: "bf16")
    tasks, (first,) = run_prepare(tmp_path)
    assert tasks == 1
    tasks, (second,) = run_prepare(tmp_path)
    assert tasks == 0
    assert fields(second.cache) == fields(first.cache)
    assert len(list((tmp_path / "banks").glob("*/manifest.json"))) == 2


def test_prepare_without_views_needs_no_cache(tmp_path: Path) -> None:
    assert run_prepare(tmp_path, views="off")[0] == 1
    tasks, (prepared,) = run_prepare(tmp_path, views="off")
    assert tasks == 0
    assert prepared.cache is None
    assert list(prepared.events()) == [prepared.teacher]


def test_prepare_leaves_all_to_workers_on_other_machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_prepare(tmp_path)
    monkeypatch.setattr(CountingExecutor, "shares_files_with", lambda *_: False)
    assert run_prepare(tmp_path)[0] == 1


def test_prepare_gives_events_the_time_of_the_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def on_another_clock(item: Any) -> Prepared:
        result = prepare_one(item)
        late = {"time": now() + 1000.0}
        cache = result.cache and result.cache.model_copy(update=late)
        return Prepared(result.teacher.model_copy(update=late), cache)

    monkeypatch.setattr(preparing, "prepare_one", on_another_clock)
    _, (prepared,) = run_prepare(tmp_path)
    assert all(event.time <= now() for event in prepared.events())


def test_only_a_folder_that_workers_use_too_is_shared_with_them(tmp_path: Path) -> None:
    executor = LocalExecutor()
    assert executor.shares_files_with(Storage(tmp_path))
    assert not executor.shares_files_with(RemoteStorage(f"file://{tmp_path}/objects", tmp_path / "store"))
