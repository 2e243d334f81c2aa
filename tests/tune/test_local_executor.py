"""The in-process executor: what a training raises is its trial's failure, what the driver raises is not."""

import sqlite3
import time
from collections.abc import Generator
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from supersnn.errors import UserError
from supersnn.records.events import TeacherTrained
from tests.support.sweeps import smallest
from tune.description.sweep import ResourcesConfig
from tune.execution import retries
from tune.execution.local import LocalExecutor
from tune.execution.preparations import Preparation, Preparations, Prepared
from tune.execution.trial import StaleDriverError
from tune.notices import Notice, TaskFailed, TaskRetried
from tune.search.messages import Job, Report
from tune.search.search import Search


class Runner:
    """Yields an epoch of each trial, after as many errors as there are left."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)

    def run_in_parts(self, job: Job) -> Generator[Report | None]:
        del job
        if self.errors:
            raise self.errors.pop(0)
        yield None
        yield Report(1, {"val/accuracy": 0.5}, "finished")


class OneTrial:
    """A search of one trial; `error` is raised by its bookkeeping."""

    over = False
    halted: UserError | None = None
    due = 0.0
    settings = smallest()

    def __init__(self, error: Exception | None = None, max_failures: int = 1) -> None:
        search = self.settings.search.model_copy(update={"max_failures": max_failures})
        self.settings = self.settings.model_copy(update={"search": search})
        self.jobs = [Job("x/0", {}, (0,), "s/trials/x/0", "s", "/store", "token")]
        self.error, self.calls, self.held = error, list[str](), list[str]()

    def poll(self) -> None:
        pass

    def next_job(self, ready: Any) -> Job | None:
        del ready
        if time.monotonic() < self.due:
            return None
        self.held = []
        return self.jobs.pop() if self.jobs else None

    def reported(self, key: str, report: Report) -> bool:
        if self.error is not None:
            raise self.error
        self.calls.append(f"{key} {report.ended}")
        return True

    def is_running(self, key: str) -> bool:
        return key == "x/0" and not self.jobs

    def attempt_failed(self, key: str, number: int, kind: str, reason: str, node: str | None) -> None:
        self.calls.append(f"{key} attempt {number} {kind}: {reason}")
        assert node is None

    def requeue(self, key: str, set_back: bool, wait: float) -> None:
        self.jobs.append(Job(key, {}, (0,), "s/trials/x/0", "s", "/store", "token"))
        self.calls.append("requeued" + " last" * set_back)
        self.held = [key] if wait else []
        self.due = time.monotonic() + wait

    def waits(self, reason: str) -> None:
        if reason:
            self.calls.append(f"waits for {reason}")

    def store_full(self, text: str) -> UserError | None:
        return UserError("the store is full") if "/store" in text else None

    def halt(self, reason: UserError) -> None:
        self.calls.append(f"halted: {reason}")
        self.over, self.halted = True, reason

    def ended(self, key: str, end: str, _node: str | None = None) -> None:
        self.calls.append(f"{key} {end}")


@pytest.fixture(autouse=True)
def waited(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let no time pass while the driver waits; return the seconds that it waited for."""
    clock, slept = [1000.0], list[float]()

    def sleep(seconds: float) -> None:
        clock[0] += seconds
        slept.append(seconds)

    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(time, "sleep", sleep)
    return slept


def searched(search: OneTrial, *errors: Exception, succeeded: bool = False) -> list[str]:
    executor = LocalExecutor()
    if succeeded:
        executor._policy.succeeded("x/1")
    executor._runner = Runner(*errors)  # type: ignore[assignment]
    executor.search(cast(Search, search))
    return search.calls


def test_an_error_of_the_driver_ends_the_search_and_fails_no_trial() -> None:
    search = OneTrial(sqlite3.OperationalError("database is locked"))
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        searched(search)
    assert search.calls == []


def test_an_error_of_a_training_is_tried_again_and_then_its_trials() -> None:
    retried = ["x/0 attempt 1 own: ValueError: one", "requeued"]
    assert searched(OneTrial(), ValueError("one")) == [*retried, "x/0 finished"]
    assert searched(OneTrial(), ValueError("one"), ValueError("two")) == [*retried, "x/0 failed:ValueError: two"]


def test_failures_of_the_machine_never_end_a_trial_and_stop_the_search_where_nothing_succeeds() -> None:
    full = [OSError(28, "No space left on device", "/tmp/x")] * 3
    calls = searched(OneTrial(max_failures=0), MemoryError(), *full)
    assert [call for call in calls if not call.startswith("x/0 attempt")] == [
        "requeued",
        "requeued last",
        "requeued last",
        "requeued last",
        "x/0 finished",
    ]
    calls = searched(OneTrial(), *[MemoryError()] * 9)
    assert len(calls) == 12
    assert calls[-1].startswith(
        "halted: everything fails: 6 attempts in a row without a success; the last: out of memory"
    )


def test_a_trial_that_the_machine_fails_again_is_tried_again_later(waited: list[float]) -> None:
    calls = searched(OneTrial(), *[OSError(5, "Input/output error")] * 3, succeeded=True)
    assert [call for call in calls if not call.startswith("x/0 attempt")] == [
        "requeued",
        "requeued last",
        *["waits for the next attempt of x/0"] * int(retries.WAIT),
        "requeued last",
        *["waits for the next attempt of x/0"] * int(2 * retries.WAIT),
        "x/0 finished",
    ]
    assert sum(waited) == pytest.approx(3 * retries.WAIT)


def test_a_full_disk_of_the_store_halts_the_search() -> None:
    assert searched(OneTrial(), OSError(28, "No space left on device", "/store/x")) == ["halted: the store is full"]


def test_an_error_that_ends_the_process_counts_once_and_halts_the_search() -> None:
    error = RuntimeError("CUDA error: device-side assert triggered")
    first, second, halted = searched(OneTrial(), error, error)
    assert (first, second) == (f"x/0 attempt 1 own: RuntimeError: {error}", "requeued")
    assert halted.startswith("halted: RuntimeError: CUDA error: device-side assert triggered; nothing more can run")


def test_changed_resources_hold_here_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    executor = LocalExecutor(resources=ResourcesConfig(gpus=0))
    first = executor._runner
    executor.adopt(ResourcesConfig(gpus=0, pack=4), max_failures=3)
    assert (executor._pack, executor._runner, executor._policy.max_failures) == (4, first, 3)
    executor.adopt(ResourcesConfig(), max_failures=3)
    assert (executor.gpus, executor._device, executor._runner.device, executor._pack) == (1.0, "cuda", "cuda", 1)


class Teachers:
    """The preparation of one teacher, which raises these errors first."""

    def __init__(self, *errors: Exception) -> None:
        self.errors, self.notices = list(errors), list[str]()
        self.item = Preparation({"teacher": {"name": "vgg8"}}, (), "/store")
        self.them = Preparations(
            {"x": [self.item]}, lambda _: None, self._work, lambda _: self.notices.append("ready"), self._note
        )

    def _work(self, _: Preparation) -> Prepared:
        if self.errors:
            raise self.errors.pop(0)
        return Prepared(TeacherTrained(name="vgg8", digest="d", family="vgg"), None)

    def _note(self, notice: Notice) -> None:
        if isinstance(notice, TaskRetried | TaskFailed):
            self.notices.append(f"{type(notice).__name__} {notice.reason}")


class WaitsForTeachers(OneTrial):
    """A search whose trial needs its teachers."""

    def next_job(self, ready: Any) -> Job | None:
        return super().next_job(ready) if ready(SimpleNamespace(name="x")) else None


def taught(teachers: Teachers, max_failures: int = 1) -> tuple[bool, list[str]]:
    """Return whether the search is ready, and what it was told."""
    search = OneTrial(max_failures=max_failures)
    ready = LocalExecutor()._prepared(cast(Search, search), teachers.them, cast(Any, SimpleNamespace(name="x")))
    return ready, search.calls


def test_teachers_are_tried_again_as_trials_are() -> None:
    teachers = Teachers(ValueError("one"), MemoryError("full"))
    assert taught(teachers) == (True, [])
    assert teachers.notices == ["TaskRetried ValueError: one", "TaskRetried MemoryError: full", "ready"]
    teachers = Teachers(ValueError("one"), ValueError("two"))
    assert taught(teachers) == (False, [])
    assert teachers.notices == ["TaskRetried ValueError: one", "TaskFailed ValueError: two"]
    assert "ValueError: two" in teachers.them.failed[teachers.item].trace
    ready, calls = taught(Teachers(*[MemoryError()] * 9))
    assert (ready, len(calls)) == (False, 1)
    assert calls[0].startswith("halted: everything fails: 6 attempts")
    full = OSError(28, "No space left on device", "/store/x")
    assert taught(Teachers(full)) == (False, ["halted: the store is full"])
    with pytest.raises(UserError, match="weights: no file"):
        taught(Teachers(UserError("weights: no file")))


def test_a_teacher_that_the_machine_fails_again_is_tried_again_later(waited: list[float]) -> None:
    teachers, search, executor = Teachers(*[MemoryError("full")] * 3), WaitsForTeachers(), LocalExecutor()
    executor._runner = Runner()  # type: ignore[assignment]
    executor._policy.succeeded("x/1")
    executor.search(cast(Search, search), teachers.them)
    assert teachers.notices == [*["TaskRetried MemoryError: full"] * 3, "ready"]
    assert set(search.calls[:-1]) == {"waits for the next attempt of a teacher"}
    assert search.calls[-1] == "x/0 finished"
    assert sum(waited) == pytest.approx(3 * retries.WAIT)


def test_a_stale_driver_ends() -> None:
    with pytest.raises(StaleDriverError):
        searched(OneTrial(), StaleDriverError("another driver"))


def tried(*errors: Exception, max_failures: int = 1) -> tuple[Any, list[str]]:
    """Return the result of a task that raises these errors first, and what was told meanwhile."""
    left, notices = list(errors), list[Notice]()

    def task(number: int) -> int:
        if left:
            raise left.pop(0)
        return number

    executor = LocalExecutor(max_failures, notify=notices.append)
    executor._policy.succeeded("x/0")  # a trial
    ((item, result),) = executor.tasks(task, [7])
    assert item == 7
    return result, [notice.reason for notice in notices if isinstance(notice, TaskRetried)]


def test_tasks_are_tried_again_as_trials_are(waited: list[float]) -> None:
    passing = OSError(5, "Input/output error")
    assert tried(passing, MemoryError("full"), passing) == (
        7,
        ["OSError: [Errno 5] Input/output error", "MemoryError: full", "OSError: [Errno 5] Input/output error"],
    )
    assert sum(waited) == pytest.approx(3 * retries.WAIT), "before the third attempt, and before the fourth"
    one, two = ValueError("one"), ValueError("two")
    assert tried(one) == (7, ["ValueError: one"])
    assert tried(one, two) == (two, ["ValueError: one"])
    mistake = UserError("weights: no file")
    assert tried(mistake) == (mistake, [])
    stale = StaleDriverError("another driver")
    assert tried(stale) == (stale, [])
    result, reasons = tried(*[passing] * 20)
    assert result is passing, "other work succeeded before"
    assert len(reasons) == 5


def test_where_every_task_fails_the_sweep_ends_with_a_reason() -> None:
    def fails(_: int) -> None:
        raise OSError(5, "Input/output error")

    with pytest.raises(UserError, match="everything fails: 6 attempts"):
        list(LocalExecutor().tasks(fails, [1]))
