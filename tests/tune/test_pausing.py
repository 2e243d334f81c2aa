"""Paused arms: they keep their trials, spend no hours, and go on where they were."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from supersnn.config_model import with_values
from supersnn.records.failure_events import DriverWaits
from supersnn.records.journal import read
from tests.support.steering import SWEEP, driving
from tune.execution.failures import Failure
from tune.execution.local import LocalExecutor
from tune.execution.retries import RetryPolicy
from tune.execution.trial_failures import TrialFailures
from tune.requests import Request, submit
from tune.search.messages import Report
from tune.store import Store
from tune.sweep_runner import SweepRunner


def test_a_paused_arm_goes_on_where_it_was(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with driving(SWEEP, store) as running:
        job = running.search.next_job()
        assert job is not None
        submit(store.sweep("one"), Request("pause", "direct"))
        running.take_up()
        assert running.search.reported(job.key, Report(1, {"val/accuracy": 0.5}, None))  # it is to stop
        assert {key.split("/")[0] for key in running.trials()} == {"soft"}
        assert running.driver.waits()
        submit(store.sweep("one"), Request("resume", "direct"))
        running.take_up()
        again = running.search.next_job()
        assert again is not None
        assert (again.key, again.reported) == (job.key, 1)


def test_a_driver_that_waits_for_people_spends_no_hours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, store = 0.0, Store(tmp_path)

    def sleep(_seconds: float) -> None:
        nonlocal now
        now += 50_000
        submit(store.sweep("one"), Request("resume"))

    monkeypatch.setattr("tune.search.budget.time", SimpleNamespace(monotonic=lambda: now))
    with driving(with_values(SWEEP, {"search.hours": 8.0}), store) as running:
        running.trials(3)
        running.ask(Request("pause"))
        monkeypatch.setattr("tune.sweep_runner.time", SimpleNamespace(sleep=sleep))  # threads of others sleep on
        runner = SweepRunner(running.driver, LocalExecutor(), steering=running.steering)
        assert runner._wait_while_paused()
        assert not runner._wait_while_paused()
        assert running.driver.budget.spent() is None
        running.trials()
        assert running.counts() == {"direct": 4, "soft": 4}
    waits = [event for event, _ in read(store.sweep("one").journal, kinds=("wait",)) if isinstance(event, DriverWaits)]
    assert [(bool(event.reason), event.paused) for event in waits] == [(True, True), (False, False)]


def test_a_paused_arm_keeps_a_sweep_waiting_although_its_hours_are_spent(tmp_path: Path) -> None:
    with driving(SWEEP, Store(tmp_path)) as running:
        running.trials(3)
        running.ask(Request("pause", "soft"), Request("change", values={"search.hours": 1e-9}))
        assert running.trials() == []
        assert running.driver.waits()
        running.ask(Request("change", values={"search.hours": 1.0}))
        running.trials()
        assert running.counts() == {"direct": 4, "soft": 1}
        running.ask(Request("change", values={"search.hours": 1e-9}))
        assert running.driver.waits()
        running.ask(Request("resume"))
        assert not running.driver.waits()
        assert not running.driver.search_left()


def test_an_arm_that_is_resumed_within_an_epoch_has_no_trial_in_two_processes(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with driving(SWEEP, store) as running:
        job = running.search.next_job()
        assert job is not None
        for kind in ("pause", "resume"):
            submit(store.sweep("one"), Request(kind, "direct"))
            running.take_up()
            assert not running.driver.waits()
        others = [running.search.next_job() for _ in range(3)]
        assert job.key not in [other.key for other in others if other is not None]
        assert not running.search.reported(job.key, Report(1, {"val/accuracy": 0.5}, None)), "it goes on"
        submit(store.sweep("one"), Request("pause", "direct"))
        running.take_up()
        TrialFailures(running.search, RetryPolicy(0)).failed(job.key, Failure("worker", "the worker died"))
        assert not running.search.is_running(job.key)
        submit(store.sweep("one"), Request("resume", "direct"))
        running.take_up()
        again = running.search.next_job()
        assert again is not None
        assert (again.key, again.reported) == (job.key, 1)
