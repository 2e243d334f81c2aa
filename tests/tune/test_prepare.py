"""Teachers and banks before a search: what is there is found at once, only what is missing is a worker's task."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from supersnn.config import DatasetConfig
from supersnn.data import training_data
from tune.description.arms import Arm, resolve
from tune.description.sweep import SweepConfig
from tune.execution.local import LocalExecutor
from tune.execution.prepare import Teaching, found, preparations, prepare
from tune.store import Store

SWEEP: dict[str, Any] = {
    "name": "s",
    "dataset": {"name": "digits", "images": 200},
    "student": {"architecture": "resnet8"},
    "teacher": {"epochs": 1, "views": 2},
    "train": {"epochs": 1},
    "arms": {"homogeneous": {"teachers": ["resnet8"]}},
}


class Counting(LocalExecutor):
    """Counts the tasks that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.given = 0

    def tasks(self, function: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
        self.given += len(items)
        return super().tasks(function, items)


def arms(**teacher: Any) -> dict[str, Arm]:
    return resolve(SweepConfig.model_validate({**SWEEP, "teacher": {**SWEEP["teacher"], **teacher}}))


def prepared(store: Path, **teacher: Any) -> tuple[int, list[Teaching]]:
    """How many tasks it took, and what came of it."""
    executor = Counting()
    made = list(prepare(arms(**teacher), Store.at(store).storage, executor))
    return executor.given, made


def test_a_worker_makes_what_is_missing_and_nothing_else(tmp_path: Path) -> None:
    (item,) = preparations(arms(), Store.at(tmp_path).storage)
    data = training_data(DatasetConfig.model_validate(item.config["dataset"]))
    assert found(item, data) is None
    tasks, made = prepared(tmp_path)
    assert tasks == 1
    assert made[0].teacher["name"] == "resnet8"
    assert made[0].bank is not None
    assert prepared(tmp_path) == (0, made)
    next((tmp_path / "banks").rglob("*.npy")).unlink()
    assert found(item, data) is None
    tasks, again = prepared(tmp_path)
    assert tasks == 1
    assert again[0].teacher == made[0].teacher


def test_a_teacher_beside_the_training_needs_no_bank(tmp_path: Path) -> None:
    assert prepared(tmp_path, views="off")[0] == 1
    tasks, (teaching,) = prepared(tmp_path, views="off")
    assert tasks == 0
    assert teaching.bank is None


def test_a_driver_with_workers_elsewhere_looks_for_nothing_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared(tmp_path)
    monkeypatch.setattr(Counting, "here", False)
    assert prepared(tmp_path)[0] == 1
