"""A holder of packed trials: signs of those that bring no report for a while, trainings that hang, trials dropped."""

import json
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
import ray
import ray.exceptions

from tune.execution import holder
from tune.execution.failures import Failure, failure_of
from tune.execution.holder import Client, Holder, HolderLost, TrialLost
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
    made = Holder(places, "cpu", 600.0)
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
    monkeypatch.setattr(holder, "SIGN_EVERY", 0.02)
    begun, released = threading.Event(), threading.Event()

    def hangs() -> Parts:
        yield Report(0, {}, None)
        begun.set()
        released.wait(60.0)
        yield Report(1, {}, None)

    held = holder_of(a=hangs)
    held.tune(0.2)
    assert epoch_of(held.next("a")) == 0
    held._pack.held.discard("a")
    assert begun.wait(60.0)
    time.sleep(0.2)  # the stall deadline, which the driver waits for as well
    for call in (
        lambda: held.start({**vars(JOB), "key": "b"}),
        lambda: held.next("a"),
        lambda: held.stop("a"),
        held.alive,
    ):
        with pytest.raises(HolderLost, match="has hung for") as raised:
            call()
        assert failure_of(raised.value).kind == "holder"
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
    assert failure_of(wrapped) == Failure("worker", "TrialLost: a was dropped")


def test_while_another_trial_loads_the_others_give_signs_and_the_holder_does_not_hang(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(holder, "SIGN_EVERY", 0.02)
    begun, released = threading.Event(), threading.Event()

    def loads() -> Parts:
        begun.set()
        released.wait(60.0)
        yield Report(1, {}, None)

    held = holder_of(2, b=epochs(1, 2), a=loads)
    held.tune(0.5)
    assert begun.wait(60.0)
    time.sleep(0.6)
    assert held.alive(), "a first turn downloads and compiles"
    assert epoch_of(held.next("b")) == 1
    assert held.next("b") is None
    released.set()
    assert epoch_of(held.next("a")) == 1


def test_an_error_that_ends_the_process_is_no_trials_own_where_several_run() -> None:
    begun = threading.Event()

    def asserts() -> Parts:
        begun.wait(60.0)
        yield None
        raise RuntimeError("CUDA error: device-side assert triggered")

    both = holder_of(2, a=asserts, b=endless)
    begun.set()
    with pytest.raises(HolderLost, match="device-side assert triggered") as raised:
        both.next("a")
    assert failure_of(raised.value).kind == "holder"
    alone = holder_of(2, a=asserts)
    with pytest.raises(RuntimeError, match="device-side assert triggered") as own:
        alone.next("a")
    assert failure_of(own.value).kind == "own"


def test_clients_of_a_lost_holder_name_it(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Exception] = []

    def fail(_asked: object) -> None:
        raise told[-1]

    monkeypatch.setattr(ray, "get", fail)
    client = Client.__new__(Client)
    client._holder, client._id, client._key = SimpleNamespace(next=SimpleNamespace(remote=lambda _: None)), "id", "a"
    hangs = ray.exceptions.RayTaskError("next", "Traceback", HolderLost("a training has hung for 9 s"))
    for error, text in (
        (ray.exceptions.OutOfMemoryError("killed due to the node running low on memory"), "low on memory"),
        (ray.exceptions.RayActorError(error_msg="The actor died\nits process has died"), "its process has died"),
        (hangs.as_instanceof_cause(), "has hung for 9 s"),
    ):
        told.append(error)
        with pytest.raises(HolderLost, match=text) as raised:
            client.next()
        failure = failure_of(pickle.loads(pickle.dumps(raised.value)))
        assert (failure.kind, failure.part) == ("holder", "id")
    told.append(ray.exceptions.RayTaskError("next", "Traceback", ValueError("3")).as_instanceof_cause())
    with pytest.raises(ValueError, match="Traceback"):
        client.next()
