"""A holder of packed trials: signs of those that bring no report for a while, trainings that hang, trials dropped."""

import json
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import ray.exceptions

from tune.execution import holder
from tune.execution.failures import failure_of
from tune.execution.holder import Holder, Keeper, TrialLost
from tune.execution.trial import Repeated
from tune.search.messages import Job, Report

Parts = Iterator[Report | Repeated | None]
JOB = Job("x/0", {}, (0,), "s/trials/x/0", "s", "/store", "token")


class Runner:
    """Runs made-up trials, by their keys."""

    def __init__(self, **trials: Callable[[], Parts]) -> None:
        self._trials = trials

    def run_in_parts(self, job: Job) -> Parts:
        return self._trials[job.key]()


def holder_of(places: int = 1, **trials: Callable[[], Parts]) -> Holder:
    """Return a holder in which the trials have started, in their order."""
    made = Holder(places, "cpu")
    made._runner = Runner(**trials)  # type: ignore[assignment]
    for key in trials:
        made.start({**vars(JOB), "key": key})
    return made


def epochs(*numbers: int) -> Callable[[], Parts]:
    return lambda: iter([Report(number, {}, None) for number in numbers])


def endless() -> Parts:
    while True:
        time.sleep(0.001)
        yield None


def epoch_of(report: str | None) -> int:
    assert report is not None
    return int(json.loads(report)["epoch"])


def eventually(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60.0
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_trial_that_waits_for_a_place_gives_signs_and_one_that_trains_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holder, "SIGN_EVERY", 0.02)
    held = holder_of(a=endless, b=epochs(1, 2))
    found: list[str | None] = []

    def ask() -> None:
        with pytest.raises(TrialLost, match="a was stopped"):
            found.append(held.next("a"))

    asks = threading.Thread(target=ask)
    asks.start()
    assert [held.next("b") for _ in range(3)] == [None] * 3
    held.stop("a")
    asks.join(60.0)
    assert found == []
    eventually(lambda: "b" in held._pack.held)
    assert epoch_of(held.next("b")) == 1
    assert held._pack.held == {"b"}, "the report came after a sign, and no other epoch has been asked for"
    assert epoch_of(held.next("b")) == 2


def test_repeated_epochs_are_signs_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    def resumed() -> Parts:
        yield Repeated(1)
        yield Repeated(2)
        yield Report(3, {}, None)

    held = holder_of(a=resumed)
    assert epoch_of(held.next("a")) == 3, "short ones are none"
    monkeypatch.setattr(holder, "SIGN_EVERY", 0.0)
    held.start({**vars(JOB), "key": "a"})
    eventually(lambda: "a" in held._pack.held)
    assert [held.next("a") for _ in range(2)] == [None, None]
    assert epoch_of(held.next("a")) == 3


def test_an_error_that_comes_before_it_is_asked_for_is_not_lost() -> None:
    def fails() -> Parts:
        yield None
        raise ValueError("wrong")

    held = holder_of(a=fails)
    eventually(lambda: len(held._pack) == 0)
    with pytest.raises(ValueError, match="wrong"):
        held.next("a")


def test_a_training_that_hangs_makes_its_holder_unusable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holder, "HANGS", 0.1)
    monkeypatch.setattr(holder, "SIGN_EVERY", 0.02)
    begun, released = threading.Event(), threading.Event()

    def hangs() -> Parts:
        begun.set()
        released.wait(60.0)
        yield Report(1, {}, None)

    held = holder_of(a=hangs)
    assert begun.wait(60.0)
    for call in (
        lambda: held.start({**vars(JOB), "key": "b"}),
        lambda: held.next("a"),
        lambda: held.stop("a"),
        held.alive,
    ):
        with pytest.raises(TrialLost, match="has hung for") as raised:
            call()
        assert failure_of(raised.value).kind == "worker"
    released.set()
    assert epoch_of(held.next("a")) == 1
    assert held.alive()


def test_a_trial_dropped_because_nobody_asked_was_lost_and_has_not_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holder, "ABANDONED", 0.0)
    held = holder_of(a=epochs(1, 2))
    eventually(lambda: not held._reports)
    with pytest.raises(TrialLost) as raised:
        held.next("a")
    assert failure_of(raised.value).kind == "worker"


def test_a_lost_trial_is_a_lost_worker_in_its_client_too() -> None:
    error = pickle.loads(pickle.dumps(TrialLost("a was dropped")))
    wrapped = ray.exceptions.RayTaskError("next", "Traceback", error).as_instanceof_cause()
    assert vars(failure_of(wrapped)) == {"kind": "worker", "text": "TrialLost: a was dropped"}


def test_a_holder_sees_its_gpus_alone_and_has_a_queue_for_each_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def options(**given: Any) -> Any:
        asked.append(given)
        return SimpleNamespace(remote=lambda *_: object())

    monkeypatch.setattr("tune.execution.holder.ray.remote", lambda _: SimpleNamespace(options=options))
    keeper = Keeper(4, "cuda")
    keeper.holder("0" * 56, ("2",))
    keeper.holder("0" * 56, ())
    variables = asked[0]["runtime_env"]["env_vars"]
    assert variables["CUDA_VISIBLE_DEVICES"] == "2"
    assert variables["CUDA_DEVICE_MAX_CONNECTIONS"] == "32"
    assert "runtime_env" not in asked[1]
