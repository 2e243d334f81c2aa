"""A running sweep obeys: each command beside a driver at work, in process and on Ray, and between two drivers."""

import json
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from supersnn.errors import UserError
from supersnn.records.events import DatasetSplit, SweepStarted, TrialEnded, TrialStarted
from tests.support import invariants
from tests.support.cli import invoke, run_json
from tests.support.driver import ON_A_CLUSTER, Driver
from tune.store import Store

SECONDS = 5.0
"""Within which a driver whose trials train takes a request up, as `docs/steering.md` says."""
PATIENCE = 30.0
"""Seconds after which a test gives a request up."""


def steered(tiny: Path, **changes: Any) -> Path:
    """Write the tiny sweep with two arms without teachers, and other changes."""
    plain = yaml.safe_load(tiny.read_text(encoding="utf-8"))
    plain["dataset"]["images"] = 300
    plain |= {"arms": {"direct": {}, "soft": {"set": {"neuron.reset": "soft"}}}, "train": {"epochs": 4}}
    plain["space"].pop("loss.relation.weight", None)
    plain |= {"search": {"trials": 3, "scheduler": "none"}, "verify": {"seeds": 1}, **changes}
    tiny.write_text(yaml.safe_dump(plain), encoding="utf-8")
    return tiny


def ask(store: Path, *words: str) -> dict[str, Any]:
    """Run a steering command."""
    return dict(run_json(*words, "--store", store))


def assert_taken_up(driver: Driver, request: dict[str, Any]) -> dict[str, Any]:
    """Wait until a request is an event, which is that of no other, and was soon; return the event."""
    driver.wait(lambda: any(event["id"] == request["id"] for event in driver.events("request")), PATIENCE)
    (event,) = [event for event in driver.events("request") if event["id"] == request["id"]]
    assert 0 <= event["time"] - event["asked"] < SECONDS, event
    return event


def wait_until_all_is_paused(driver: Driver) -> None:
    """Wait until what was running has stopped, and the driver waits for people."""
    driver.wait(lambda: any(event.get("paused") for event in driver.events("wait")[-1:]), 60)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_driver_obeys_and_the_next_one_too(tiny: Path, tmp_path: Path) -> None:
    file, store = steered(tiny), tmp_path / "store"
    driver = Driver(file, store, "--local")
    driver.wait_for_epochs(1)
    given = ask(store, "enqueue", "tiny", "soft", "optimizer.lr=0.0333")
    assert assert_taken_up(driver, given)["refused"] is None
    assert_taken_up(driver, ask(store, "pause", "tiny", "direct"))
    (status,) = run_json("status", "tiny", "--store", store)
    assert status["paused"] == ["direct"]
    stopped = ask(store, "stop", "tiny")
    assert driver.process.wait(timeout=60) == 130, driver.output()
    assert assert_stopped(driver) == stopped["id"]
    assert ask(store, "stop", "tiny")["state"] == "not running"
    waiting = [ask(store, "change", "tiny", "search.trials=4"), ask(store, "resume", "tiny")]
    assert {one["state"] for one in waiting} == {"pending"}
    (status,) = run_json("status", "tiny", "--store", store)
    assert status["requests"] == ["change search.trials=4", "resume"]
    driver = Driver(file, store, "--local")
    driver.finish(300)
    starts = {event["request"]: event for event in driver.events("start") if "request" in event}
    assert starts[given["id"]]["params"]["optimizer.lr"] == 0.0333
    invariants.assert_sweep(store, "tiny")
    report = run_json("report", "tiny", "--store", store)
    assert {arm: row["trials"] for arm, row in report["arms"].items()} == {"direct": 4, "soft": 4}
    assert {arm: row["given"] for arm, row in report["arms"].items()} == {"direct": 0, "soft": 1}
    assert not list((store / "sweeps" / "tiny" / "requests").iterdir())


def assert_stopped(driver: Driver) -> str:
    """Assert that the driver has closed as one that was interrupted; return the id of the request."""
    *_, asked, closed = driver.events("request", "close")
    assert (asked["kind"], asked["refused"], closed["end"]) == ("stop", None, "interrupted")
    return str(asked["id"])


def test_mistakes_are_found_before_anything_is_asked(tiny: Path, tmp_path: Path) -> None:
    folder = Store(tmp_path / "store").sweep("tiny")
    folder.path.mkdir(parents=True)
    folder.config.write_text(steered(tiny).read_text(encoding="utf-8"), encoding="utf-8")
    trial: dict[str, Any] = {"arm": "direct", "trial": 0}
    events = (
        SweepStarted(driver="a"),
        DatasetSplit(split="s"),
        TrialStarted(**trial, params={}, config={}),
        TrialEnded(**trial, end="finished", epochs=1, value=0.5),
    )
    folder.journal.write_text("".join(f"{event.model_dump_json(by_alias=True)}\n" for event in events))
    for words, fault in (
        (("enqueue", "tiny", "direkt", "optimizer.lr=0.1"), "no arm 'direkt' .did you mean 'direct'"),
        (("enqueue", "tiny", "direct", "optimizer.lr=7"), "direct: optimizer.lr: expected a value of log"),
        (("enqueue", "tiny", "direct", "optimizer.lr"), "optimizer.lr: expected key=value"),
        (("change", "tiny", "train.epochs=9"), "train.epochs: cannot be changed once a sweep has begun"),
        (("change", "tiny", "search.trails=9"), "search.trails: unknown key"),
        (("pause", "tinny"), "no sweep 'tinny'"),
        (("retry", "tiny", "direct"), "direct: expected ARM/N"),
        (("retry", "tiny", "direct/0"), "direct/0: only a failed trial can be run again; this one has finished"),
        (("retry", "tiny", "direct/999"), "direct/999: there is no such trial"),
        (("show", "tiny", "direct/2"), "direct/2: this arm has had 1 trials, from 0 on"),
    ):
        with pytest.raises(UserError, match=fault):
            raise invoke(*words, "--store", tmp_path / "store").exception or AssertionError
    assert not folder.requests.exists()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_failed_trial_is_run_again(tiny: Path, tmp_path: Path) -> None:
    file, store = steered(tiny, train={"epochs": 1}), tmp_path / "store"
    plain = yaml.safe_load(file.read_text(encoding="utf-8"))
    plain["arms"]["silent"] = {"set": {"neuron.threshold": 1000.0}}
    file.write_text(yaml.safe_dump(plain), encoding="utf-8")
    driver = Driver(file, store, "--local")
    driver.finish(300)
    assert {(event["arm"], event["end"]) for event in driver.failures()} == {("silent", "failed:silent")}
    assert ask(store, "retry", "tiny", "silent/1")["state"] == "pending"
    Driver(file, store, "--local").finish(300)
    (again,) = [event for event in driver.events("start") if "request" in event]
    assert (again["arm"], again["trial"]) == ("silent", 3)
    (first,) = [event for event in driver.events("start") if (event["arm"], event["trial"]) == ("silent", 1)]
    assert again["params"] == first["params"]
    assert run_json("report", "tiny", "--store", store)["arms"]["silent"]["given"] == 0


class TestOnRay:
    """Every command against a running Ray sweep."""

    pytestmark = ON_A_CLUSTER

    def test_every_command(self, tiny: Path, tmp_path: Path) -> None:
        file = steered(tiny, train={"epochs": 20}, search={"trials": 4, "scheduler": "none", "max_failures": 0})
        store = tmp_path / "store"
        driver = Driver(file, store)
        driver.wait_for_epochs(4)
        given = ask(store, "enqueue", "tiny", "soft", "optimizer.lr=0.0333")
        assert_taken_up(driver, given)
        assert_taken_up(driver, ask(store, "pause", "tiny"))
        wait_until_all_is_paused(driver)
        (status,) = run_json("status", "tiny", "--store", store)
        assert {arm: row["running"] for arm, row in status["arms"].items()} == {"direct": {}, "soft": {}}
        before = len(driver.events("epoch"))
        time.sleep(10)
        assert len(driver.events("epoch")) == before, "what ran has stopped"
        assert_taken_up(driver, ask(store, "resume", "tiny", "soft"))
        driver.wait_for_epochs(3)
        assert_taken_up(driver, ask(store, "resume", "tiny"))
        changes = ("search.trials=5", "resources.trials_at_once=3", "search.max_failures=3")
        assert_taken_up(driver, ask(store, "change", "tiny", *changes))
        teachers = '{"teachers": ["resnet8"]}'
        assert_taken_up(driver, ask(store, "change", "tiny", f"arms.homogeneous={teachers}"))
        assert_taken_up(driver, ask(store, "change", "tiny", "space.optimizer.lr={log: [0.001, 2.0]}", "verify.top=2"))
        driver.finish()
        invariants.assert_sweep(store, "tiny")
        report = run_json("report", "tiny", "--store", store)
        assert {arm: row["trials"] for arm, row in report["arms"].items()} == {
            "direct": 5, "soft": 5, "homogeneous": 5,
        }  # fmt: skip
        assert len(driver.events("ranked")) == 3 * 2 * 3
        assert all(event["refused"] is None for event in driver.events("request"))

    def test_stopped_on_ray(self, tiny: Path, tmp_path: Path) -> None:
        file, store = steered(tiny, train={"epochs": 30}), tmp_path / "store"
        driver = Driver(file, store)
        driver.wait_for_epochs(2)
        ask(store, "stop", "tiny")
        assert driver.process.wait(timeout=120) == 130, driver.output()
        assert_stopped(driver)
        steered(tiny, train={"epochs": 30}, search={"trials": 2, "scheduler": "none"})
        Driver(file, store).finish()
        invariants.assert_sweep(store, "tiny")


@pytest.mark.chaos
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_drivers_killed_at_random_moments_while_they_are_steered(seed: int, tiny: Path, tmp_path: Path) -> None:
    """Requests come beside running drivers and between them, and drivers are killed: each holds once."""
    file = steered(tiny, train={"epochs": 6}, search={"trials": 4, "scheduler": "asha", "max_failures": 5})
    store, dice = tmp_path / "store", random.Random(seed)
    requests = [
        ("enqueue", "tiny", "soft", "optimizer.lr=0.0333"),
        ("change", "tiny", "search.trials=5"),
        ("pause", "tiny", "direct"),
        ("change", "tiny", 'arms.homogeneous={"teachers": ["resnet8"]}'),
        ("resume", "tiny"),
        ("change", "tiny", "space.optimizer.lr={log: [0.001, 2.0]}"),
    ]
    kills = 0
    ids: list[str] = []
    while requests or kills < 6:
        driver = Driver(file, store)
        driver.wait(lambda driver=driver: driver.journal.exists(), seconds=120)  # type: ignore[misc]
        for _ in range(dice.randrange(1, 3)):
            time.sleep(dice.uniform(0.0, 15.0 if ids else 3.0))  # the first one wants a trial that has not begun
            if requests:
                words = requests.pop(0)
                command = [sys.executable, "-m", "supersnn_cli", *words, "--store", str(store), "--json"]
                asked = subprocess.run(command, capture_output=True, text=True, check=False)
                assert asked.returncode == 0, asked.stderr
                ids.append(json.loads(asked.stdout)["id"])
        if driver.process.poll() is not None:
            break
        time.sleep(dice.uniform(0.0, 6.0))
        driver.kill()
        kills += 1
    last = Driver(file, store)
    last.finish()
    taken = [event["id"] for event in last.events("request")]
    assert sorted(taken) == sorted(ids)
    given = [event for event in last.events("start") if event.get("request") == ids[0]]
    assert len({(event["arm"], event["trial"]) for event in given}) == 1
    invariants.assert_sweep(store, "tiny")
