"""Drivers that are killed while they take up requests: each request is obeyed once."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import optuna
import pytest

from supersnn.records.events import TrialStarted
from supersnn.records.journal import read
from tests.support.steering import SWEEP, Killed, driving, events
from tune import requests
from tune.requests import Request, submit
from tune.store import Store
from tune.sweep_driver import SweepDriver
from tune.sweep_record import SweepRecord


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 12))])
def test_drivers_that_are_killed_anywhere_obey_each_request_once(seed: int, tmp_path: Path) -> None:
    """Drivers die at random calls: while a request is read, recorded, applied or deleted, or a trial is asked for."""
    store, dice = Store(tmp_path), random.Random(seed)
    folder = store.sweep("one")
    folder.path.mkdir(parents=True)
    asked = [
        Request("enqueue", "direct", values={"optimizer.lr": 0.05}),
        Request("enqueue", "soft", values={"optimizer.lr": 0.06}),
        Request("change", values={"search.trials": 6}),
        Request("pause", "soft"),
        Request("change", values={"arms.hard": {"set": {"neuron.reset": "hard"}}}),
        Request("resume", "soft"),
        Request("change", values={"space.optimizer.lr": {"log": [0.001, 1.0]}}),
    ]
    for request in asked[:2]:  # while their arms have trials left to begin
        submit(folder, request)
    waiting, kills = asked[2:], 0
    while True:
        if waiting and dice.random() < 0.7:
            submit(folder, waiting.pop(0))
        try:
            with dying(dice, dice.choice([3, 10, 40, 150]) if kills < 12 else 10**9), driving(SWEEP, store) as running:
                while running.trials(dice.randrange(1, 4)):
                    if waiting and dice.random() < 0.5:
                        submit(folder, waiting.pop(0))
                    running.take_up()
                if not waiting and not requests.pending(folder) and not running.driver.search_left():
                    break
        except Killed:
            kills += 1
    assert kills
    recorded = [event.id for event in events(store)]
    assert sorted(recorded) == sorted(request.id for request in asked)
    assert not [event for event in events(store) if event.refused is not None]
    state = running.driver.record.state
    assert running.counts() == {"direct": 6, "soft": 6, "hard": 6}
    starts = [event for event, _ in read(folder.journal, kinds=("start",)) if isinstance(event, TrialStarted)]
    for request in asked[:2]:
        given = {(event.arm, event.trial) for event in starts if event.request == request.id}
        assert len(given) == 1
        ((arm, number),) = given
        trial = state.trial(arm, number)
        assert trial is not None
        assert trial.params["optimizer.lr"] == request.values["optimizer.lr"]


@contextmanager
def dying(dice: random.Random, calls: int) -> Iterator[None]:
    """Kill the driver at one of the next calls of what it does to disks and databases."""
    left = dice.randrange(1, calls)

    def counted(name: str, original: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                raise Killed(name)
            result = original(*arguments, **options)
            left -= 1
            if left == 0:
                raise Killed(name)
            return result

        return call

    with (
        patch.object(requests, "delete", counted("delete", requests.delete)),
        patch.object(SweepRecord, "write", counted("write", SweepRecord.write)),
        patch.object(optuna.Study, "ask", counted("ask", optuna.Study.ask)),
        patch.object(optuna.Study, "enqueue_trial", counted("enqueue", optuna.Study.enqueue_trial)),
        patch.object(SweepDriver, "reopen", counted("reopen", SweepDriver.reopen)),
    ):
        yield
