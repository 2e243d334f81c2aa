"""A teacher in preparation tells that it advances, and how it ends."""

import json
import time
from typing import Any

import pytest

from supersnn.records.events import TeacherTrained
from tune.execution import preparing
from tune.execution.preparations import Prepared
from tune.execution.preparing import Preparing
from tune.execution.progress import advanced

TASK: dict[str, Any] = {"config": {"teacher": {"name": "vgg8"}}, "kinds": (), "store": "/store"}
READY = Prepared(TeacherTrained(name="vgg8", digest="d", family="vgg"), None)


def test_its_steps_tell_of_progress_until_it_is_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    def prepare(_: object) -> Prepared:
        for _ in range(6):
            time.sleep(0.05)
            advanced()
        return READY

    monkeypatch.setattr(preparing, "prepare_one", prepare)
    monkeypatch.setattr(preparing, "REPORT_EVERY", 0.08)
    course = Preparing(TASK, "cpu")
    steps = [course.next()]
    while "advanced" in steps[-1]:
        steps.append(course.next())
    assert Prepared.from_text(steps.pop()["prepared"]) == READY
    assert steps
    assert all(step["advanced"] >= 0.05 for step in steps)


def test_an_error_of_its_own_is_its_result_and_one_of_the_machine_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def prepare(error: Exception) -> Any:
        def fail(_: object) -> Prepared:
            raise error

        monkeypatch.setattr(preparing, "prepare_one", fail)
        return Preparing(TASK, "cpu")

    failed = json.loads(prepare(ValueError("3 channels")).next()["failed"])
    assert (failed["text"], failed["by_user"]) == ("ValueError: 3 channels", False)
    with pytest.raises(MemoryError):
        prepare(MemoryError()).next()
