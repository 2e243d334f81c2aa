"""The in-process executor: what a training raises is its trial's failure, what the driver raises is not."""

import sqlite3
from collections.abc import Generator
from typing import cast

import pytest

from tune.execution.local import LocalExecutor
from tune.execution.trial import StaleDriverError
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

    left = False

    def __init__(self, error: Exception | None = None) -> None:
        self.jobs = [Job("x/0", {}, (0,), "s/trials/x/0", "s", "/store", "token")]
        self.error, self.calls = error, list[str]()

    def poll(self) -> None:
        pass

    def next_job(self, _ready: object) -> Job | None:
        return self.jobs.pop() if self.jobs else None

    def reported(self, key: str, report: Report) -> bool:
        if self.error is not None:
            raise self.error
        self.calls.append(f"{key} {report.ended}")
        return True

    def failed(self, key: str) -> None:
        self.calls.append(f"{key} failed")


def searched(search: OneTrial, *errors: Exception, max_failures: int = 1) -> list[str]:
    executor = LocalExecutor(max_failures)
    executor._runner = Runner(*errors)  # type: ignore[assignment]
    executor.search(cast(Search, search))
    return search.calls


def test_an_error_of_the_driver_ends_the_search_and_fails_no_trial() -> None:
    search = OneTrial(sqlite3.OperationalError("database is locked"))
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        searched(search)
    assert search.calls == []


def test_an_error_of_a_training_is_tried_again_and_then_its_trials() -> None:
    assert searched(OneTrial(), ValueError("one")) == ["x/0 finished"]
    assert searched(OneTrial(), ValueError("one"), ValueError("two")) == ["x/0 failed"]


def test_a_stale_driver_ends() -> None:
    with pytest.raises(StaleDriverError):
        searched(OneTrial(), StaleDriverError("another driver"))
