"""A driver obeys requests: each once, also when it is killed while it takes one up; budgets stay equal."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import optuna
import pytest

from supersnn.config_model import parse, read_yaml, with_values
from supersnn.errors import UserError
from supersnn.records import steering
from supersnn.records.events import RequestTaken, TrialStarted
from supersnn.records.failure_events import DriverWaits
from supersnn.records.journal import read
from supersnn.records.searches import split_key
from tune import requests
from tune.description.sweep import SweepConfig
from tune.execution.failures import Failure
from tune.execution.local import LocalExecutor
from tune.execution.retries import RetryPolicy
from tune.execution.trial_failures import TrialFailures
from tune.requests import Request, submit
from tune.search.messages import Report
from tune.search.search import Search
from tune.steering import Steering
from tune.store import Store
from tune.sweep_driver import SweepDriver, open_sweep
from tune.sweep_runner import SweepRunner

PLAIN: dict[str, Any] = {
    "name": "one",
    "dataset": {"name": "digits"},
    "student": {"architecture": "resnet8"},
    "train": {"epochs": 2},
    "arms": {"direct": {}, "soft": {"set": {"neuron.decay": 0.3}}},
    "space": {"optimizer.lr": {"log": [0.01, 0.1]}, "neuron.reset": {"categorical": ["hard", "soft"]}},
    "search": {"trials": 4, "scheduler": "none"},
}
VALUES = {"optimizer.lr": 0.05}
"""Of a trial that somebody gives."""


class Killed(BaseException):
    """Ends a driver at once, as SIGKILL does."""


@pytest.fixture
def sweep() -> SweepConfig:
    return parse(SweepConfig, PLAIN, "test")


class Running:
    """A driver whose trials take no time: it does what a `SweepRunner` does in its search."""

    def __init__(self, driver: SweepDriver) -> None:
        self.driver, self.steering = driver, Steering(driver)
        self.steering.take_up()
        self.search = self._searching()

    def _searching(self) -> Search:
        self.steering.adopt_waiting()
        driver = self.driver
        search = Search(driver.studies, driver.record, driver.budget, driver.folder.path, driver.storage, driver.token)
        driver.studies.claim(driver.sweep_id)
        search.reconcile()
        self.steering.search = search
        return search

    def take_up(self) -> None:
        self.steering.take_up()
        if self.search.left:
            self.search = self._searching()

    def trials(self, most: int = 100, fail: bool = False, best: int = 0) -> list[str]:
        """Run so many trials to their ends, or all that are left; return their names.

        Args:
            most: how many.
            fail: whether they fail.
            best: up to this number each trial of a search is better than those before, later ones no more.
        """
        ended: list[str] = []
        while len(ended) < most and (job := self.search.next_job()) is not None:
            ended.append(job.key)
            arm, number = split_key(job.key)
            for epoch in range(job.reported + 1, 3):
                how = None if epoch < 2 else "failed:nan" if fail else "finished"
                value = 0.5 + len(arm) / 100 + epoch / 1000 + min(number, best) / 1000
                self.search.reported(job.key, Report(epoch, {"val/accuracy": value, "spikes/rate": 0.1}, how))
        return ended

    def ask(self, *asked: Request) -> list[str | None]:
        """Let the driver take up requests; return why each was refused, None for those that were granted."""
        for request in asked:
            submit(self.driver.folder, request)
        self.take_up()
        return [self.driver.record.state.requests[request.id].refused for request in asked]

    def counts(self) -> dict[str, int]:
        return {name: counts.suggested for name, counts in self.driver.studies.counts.items()}

    def params(self, arm: str, number: int) -> dict[str, Any]:
        trial = self.driver.record.state.trial(arm, number)
        assert trial is not None
        return trial.params


@contextmanager
def driving(sweep: SweepConfig, store: Store) -> Iterator[Running]:
    with open_sweep(sweep, store) as driver, driver.recording():
        yield Running(driver)


def events(store: Store) -> list[RequestTaken]:
    found = (event for event, _ in read(store.sweep("one").journal, kinds=("request",)))
    return [event for event in found if isinstance(event, RequestTaken)]


def test_a_given_trial_is_the_arms_next(sweep: SweepConfig, tmp_path: Path) -> None:
    store = Store(tmp_path)
    with driving(sweep, store) as running:
        running.trials(4)
        submit(store.sweep("one"), Request("enqueue", "soft", values={"optimizer.lr": 0.05}))
        running.take_up()
        assert requests.pending(store.sweep("one")) == []
        running.trials(2)
        assert running.params("soft", 2)["optimizer.lr"] == 0.05
        trial = running.driver.record.state.trial("soft", 2)
        assert trial is not None
        assert trial.request == events(store)[0].id
        running.trials()
        assert running.counts() == {"direct": 4, "soft": 4}


def test_a_given_trial_does_not_displace_a_start_design(sweep: SweepConfig, tmp_path: Path) -> None:
    plain, steered = Store(tmp_path / "plain"), Store(tmp_path / "steered")
    with driving(sweep, plain) as running:
        running.trials()
        designs = [running.params("direct", number) for number in range(4)]
    with driving(sweep, steered) as running:
        submit(steered.sweep("one"), Request("enqueue", "direct", values={"optimizer.lr": 0.03}))
        running.take_up()
        running.trials()
        found = [running.params("direct", number) for number in range(4)]
    assert found[0]["optimizer.lr"] == 0.03
    assert found[1:] == designs[:3]


def test_requests_between_two_drivers_are_taken_up_by_the_next(sweep: SweepConfig, tmp_path: Path) -> None:
    store = Store(tmp_path)
    with driving(sweep, store) as running:
        running.trials(3)
    folder = store.sweep("one")
    for request in (Request("change", values={"search.trials": 6}), Request("pause", "soft")):
        submit(folder, request)
    with driving(sweep, store) as running:
        running.trials()
        assert running.counts()["direct"] == 6
        assert running.counts()["soft"] < 3
        assert running.driver.waits()
        assert parse(SweepConfig, read_yaml(folder.config), "stored").search.trials == 6
    with driving(sweep, store) as running:  # with the file as it was: the change still holds
        assert running.trials() == []
        submit(folder, Request("resume"))
        running.take_up()
        running.trials()
        assert running.counts() == {"direct": 6, "soft": 6}
    with driving(with_values(sweep, {"search.trials": 7}), store) as running:  # a newer file
        running.trials()
        assert running.counts() == {"direct": 7, "soft": 7}


def test_a_change_after_the_file_was_edited_holds_and_an_earlier_one_never_again(
    sweep: SweepConfig, tmp_path: Path
) -> None:
    def found(in_file: int, change: int | None = None) -> int:
        with driving(with_values(sweep, {"search.trials": in_file}), Store(tmp_path)) as running:
            running.trials(1)
            if change is not None:
                assert running.ask(Request("change", values={"search.trials": change})) == [None]
            return running.driver.sweep.search.trials

    assert found(8, change=12) == 12
    assert found(12) == 12  # as `supersnn verify` reads it
    assert found(8) == 12
    assert found(16) == 16
    assert found(8) == 8
    assert found(16, change=20) == 20
    assert found(16) == 20
    assert found(20, change=24) == 24
    assert found(20) == 24
    assert found(16) == 24
    assert found(8) == 8


def test_fewer_trials_leave_equal_budgets(sweep: SweepConfig, tmp_path: Path) -> None:
    store = Store(tmp_path)
    with driving(sweep, store) as running:
        running.trials(7)
        submit(store.sweep("one"), Request("change", values={"search.trials": 2}))
        running.take_up()
        running.trials()
        assert running.counts() == {"direct": 4, "soft": 4}


def test_a_paused_arm_goes_on_where_it_was(sweep: SweepConfig, tmp_path: Path) -> None:
    store = Store(tmp_path)
    with driving(sweep, store) as running:
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


def test_a_request_that_is_granted_as_the_search_ends_is_done_before_the_final_runs(
    sweep: SweepConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    with driving(sweep, store) as running:
        searches: list[Search] = []

        def search(own: Search, _preparations: object) -> None:
            searches.append(own)
            running.search = own
            running.trials()
            if len(searches) == 1:
                assert running.ask(Request("change", values={"search.trials": 6})) == [None]

        executor = LocalExecutor()
        monkeypatch.setattr(executor, "search", search)
        runner = SweepRunner(running.driver, executor, steering=running.steering)
        at_final_runs: list[dict[str, int]] = []
        monkeypatch.setattr(runner, "_inspect", lambda: None)
        monkeypatch.setattr(runner, "_verify", lambda: at_final_runs.append(running.counts()))
        monkeypatch.setattr(running.driver.final_runs, "left", lambda: False)
        runner.train()
    assert len(searches) == 2
    assert at_final_runs == [{"direct": 6, "soft": 6}]


def test_a_driver_that_waits_for_people_spends_no_hours(
    sweep: SweepConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, store = 0.0, Store(tmp_path)

    def sleep(_seconds: float) -> None:
        nonlocal now
        now += 50_000
        submit(store.sweep("one"), Request("resume"))

    monkeypatch.setattr("tune.search.budget.time.monotonic", lambda: now)
    with driving(with_values(sweep, {"search.hours": 8.0}), store) as running:
        running.trials(3)
        running.ask(Request("pause"))
        monkeypatch.setattr("tune.sweep_runner.time.sleep", sleep)
        runner = SweepRunner(running.driver, LocalExecutor(), steering=running.steering)
        assert runner._wait_while_paused()
        assert not runner._wait_while_paused()
        assert running.driver.budget.spent() is None
        running.trials()
        assert running.counts() == {"direct": 4, "soft": 4}
    waits = [event for event, _ in read(store.sweep("one").journal, kinds=("wait",)) if isinstance(event, DriverWaits)]
    assert [(bool(event.reason), event.paused) for event in waits] == [(True, True), (False, False)]


def test_a_paused_arm_keeps_a_sweep_waiting_although_its_hours_are_spent(sweep: SweepConfig, tmp_path: Path) -> None:
    with driving(sweep, Store(tmp_path)) as running:
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


def test_an_arm_that_is_resumed_within_an_epoch_has_no_trial_in_two_processes(
    sweep: SweepConfig, tmp_path: Path
) -> None:
    store = Store(tmp_path)
    with driving(sweep, store) as running:
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


def test_a_failed_trial_is_run_again_and_does_not_count(sweep: SweepConfig, tmp_path: Path) -> None:
    store, folder = Store(tmp_path), Store(tmp_path).sweep("one")
    with driving(sweep, store) as running:
        running.trials(1, fail=True)
        running.trials()
        for target, number in (("direct", 0), ("direct", 0), ("soft", 1), ("soft", 77), ("nobody", 0)):
            submit(folder, Request("retry", target, trial=number))
        running.take_up()
        assert [event.refused for event in events(store)] == [
            None,
            "direct/0: it is run again already",
            "soft/1: only a failed trial can be run again; this one has finished",
            "soft/77: there is no such trial",
            "no arm 'nobody'; the arms are: direct, soft",
        ]
        assert running.trials() == ["direct/4"]
        assert running.params("direct", 4) == running.params("direct", 0)
        assert running.counts() == {"direct": 5, "soft": 4}
        assert steering.favoured(running.driver.record.state) == {}


@pytest.mark.parametrize(
    ("fair", "stagnation", "arms"),
    [
        ("compute", None, ["direct"]),
        ("compute", 3, ["direct", "soft"]),
        ("trials", 3, ["direct"]),
        ("trials", 3, ["direct", "soft"]),
    ],
)
def test_a_failed_trial_is_run_again_although_the_search_has_ended(
    fair: str, stagnation: int | None, arms: list[str], tmp_path: Path
) -> None:
    search = {"fair": fair, "stagnation": stagnation, "trials": 4 if stagnation is None else 20, "scheduler": "none"}
    plain = {**PLAIN, "search": search, "arms": {arm: PLAIN["arms"][arm] for arm in arms}}
    sweep = parse(SweepConfig, plain, "test")
    with driving(sweep, Store(tmp_path)) as running:
        running.trials(1, fail=True)
        ended = running.trials(best=1)
        assert len(ended) == (4 if stagnation is None else 5) * len(arms) - 1
        assert not running.driver.search_left()
        assert running.ask(Request("retry", "direct", trial=0)) == [None]
        assert running.driver.search_left()
        again = len(ended) + 1 if len(arms) == 1 else 4 if stagnation is None else 5
        assert running.trials(best=1) == [f"direct/{again}"]
        assert running.params("direct", again) == running.params("direct", 0)
        assert not running.driver.search_left()


def test_what_was_granted_is_run_although_less_is_to_be_done_now(sweep: SweepConfig, tmp_path: Path) -> None:
    with driving(sweep, Store(tmp_path)) as running:
        running.trials(4)
        given = Request("enqueue", "direct", values=VALUES)
        assert running.ask(given, Request("change", values={"search.trials": 2})) == [None, None]
        running.trials()
        assert running.params("direct", 2)["optimizer.lr"] == 0.05
        assert running.counts() == {"direct": 3, "soft": 3}


@pytest.mark.parametrize("fair", ["trials", "compute"])
def test_no_trial_is_given_to_a_search_that_has_ended(fair: str, sweep: SweepConfig, tmp_path: Path) -> None:
    settings = {"search.fair": fair, "search.stagnation": 3, "search.trials": 20}
    with driving(with_values(sweep, settings), Store(tmp_path)) as running:
        running.trials()
        assert running.counts() == {"direct": 4, "soft": 4}
        (refused,) = running.ask(Request("enqueue", "direct", values=VALUES))
        assert refused == (
            "direct: nothing was better in 3 trials of any arm, so that the search has ended; a larger "
            "search.stagnation makes room"
        )
        wider = Request("change", values={"search.stagnation": 5})
        assert running.ask(wider, Request("enqueue", "direct", values=VALUES)) == [None, None]
        running.trials()
        assert running.counts() == {"direct": 6, "soft": 6}


def test_nothing_is_granted_that_no_hours_are_left_for(sweep: SweepConfig, tmp_path: Path) -> None:
    def limited(hours: float) -> list[Request]:
        given = Request("change", values={"search.hours": hours}), Request("enqueue", "direct", values=VALUES)
        return [*given, Request("retry", "direct", trial=0)]

    with driving(sweep, Store(tmp_path)) as running:
        running.trials(1, fail=True)
        running.trials(2)
        assert running.ask(*limited(1e-9)) == [
            None,
            "direct: no trial may begin, search.hours: 0.00 of 1e-09 are spent; raise that, and ask again",
            "direct/0: no trial may begin, search.hours: 0.00 of 1e-09 are spent; raise that, and ask again",
        ]
        assert running.trials() == []
        assert running.ask(*limited(1.0)) == [None, None, None]
        running.trials()
        assert running.counts() == {"direct": 5, "soft": 4}


def test_what_cannot_be_is_refused_and_recorded(sweep: SweepConfig, tmp_path: Path) -> None:
    store, folder = Store(tmp_path), Store(tmp_path).sweep("one")
    with driving(sweep, store) as running:
        running.trials()
        asked = [
            Request("enqueue", "direct", values={"optimizer.lr": 0.05}),
            Request("enqueue", "direct", values={"optimizer.lr": 5.0}),
            Request("change", values={"train.epochs": 9}),
            Request("change", values={"search.trials": "many"}),
            Request("stop", driver="another"),
        ]
        for request in asked:
            submit(folder, request)
        running.take_up()
        refused = [event.refused or "" for event in events(store)]
        for found, words in zip(
            refused,
            ("has begun all of its 4 trials", "", "cannot be changed", "search.trials", "has ended"),
            strict=True,
        ):
            assert words in found
            assert found
        assert running.driver.sweep.search.trials == 4
        assert requests.pending(folder) == []


def test_a_new_arm_catches_up_before_the_others_go_on(sweep: SweepConfig, tmp_path: Path) -> None:
    store = Store(tmp_path)
    with driving(sweep, store) as running:
        running.trials(5)
        under_way = running.search.next_job()
        assert under_way is not None
        submit(store.sweep("one"), Request("change", values={"arms.hard": {"set": {"neuron.reset": "hard"}}}))
        running.take_up()
        order = running.trials()
        assert order[0] == under_way.key  # it was requeued
        assert [key.split("/")[0] for key in order[1:4]] == ["hard"] * 3
        assert running.counts() == {"direct": 4, "soft": 4, "hard": 4}
    with driving(sweep, store) as running:  # the file does not have the arm; the sweep does
        assert running.counts()["hard"] == 4
        assert not running.driver.search_left()
    other = with_values(sweep, {"arms.else": {}})
    with pytest.raises(UserError, match="different configuration"), driving(other, store):
        pass


@pytest.mark.parametrize("fair", ["trials", "compute"])
def test_a_new_arm_catches_up_in_a_search_that_stagnates(fair: str, sweep: SweepConfig, tmp_path: Path) -> None:
    settings = {"search.trials": 20, "search.stagnation": 5, "search.fair": fair}
    with driving(with_values(sweep, settings), Store(tmp_path)) as running:
        running.trials(best=6)
        assert running.counts() == {"direct": 12, "soft": 12}
        assert running.ask(Request("change", values={"arms.hard": {"set": {"neuron.reset": "hard"}}})) == [None]
        assert {split_key(key)[0] for key in running.trials(best=0)} == {"hard"}
        assert running.counts() == {"direct": 12, "soft": 12, "hard": 12}


@pytest.mark.parametrize("sampler", ["tpe", "random", pytest.param("gp", marks=pytest.mark.slow)])
def test_a_wider_space_is_searched_with_what_is_known(sampler: str, sweep: SweepConfig, tmp_path: Path) -> None:
    store = Store(tmp_path)
    sweep = with_values(sweep, {"search.sampler": sampler, "search.trials": 4})
    wider = {"space.optimizer.lr": {"log": [0.01, 10.0]}, "space.neuron.reset": {"categorical": ["hard", "soft"]}}
    with driving(sweep, store) as running:
        running.trials(5)
        under_way = running.search.next_job()
        assert under_way is not None
        submit(store.sweep("one"), Request("change", values={"search.trials": 10, **wider}))
        running.take_up()
        assert running.trials(1) == [under_way.key]
        running.trials()
        assert running.counts() == {"direct": 10, "soft": 10}
        later = [running.params(arm, n)["optimizer.lr"] for arm in ("direct", "soft") for n in range(4, 10)]
        assert max(later) > 0.1
    study = optuna.load_study(study_name="one/direct", storage=store.optuna_url)
    assert {trial.distributions["optimizer.lr"].high for trial in study.trials} == {10.0}  # type: ignore[attr-defined]
    with driving(sweep, store) as running:
        assert not running.driver.search_left()


def test_a_further_choice_where_a_driver_died_before_its_studies_were_rebuilt(
    sweep: SweepConfig, tmp_path: Path
) -> None:
    store = Store(tmp_path)
    surrogate = {"neuron.surrogate": {"categorical": ["triangle", "atan"]}}
    sweep = with_values(sweep, {"space": surrogate, "search.trials": 10})
    choices = {"space.neuron.surrogate": {"categorical": ["triangle", "atan", "sigmoid"]}}
    with driving(sweep, store) as running:
        running.trials(5)
        submit(store.sweep("one"), Request("change", values=choices))
        with patch.object(SweepDriver, "reopen", side_effect=Killed), pytest.raises(Killed):
            running.take_up()
    with driving(sweep, store) as running:
        running.trials()
        assert running.counts() == {"direct": 10, "soft": 10}
        found = {running.params(arm, n)["neuron.surrogate"] for arm in ("direct", "soft") for n in range(10)}
        assert "sigmoid" in found


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 12))])
def test_drivers_that_are_killed_anywhere_obey_each_request_once(seed: int, sweep: SweepConfig, tmp_path: Path) -> None:
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
            with dying(dice, dice.choice([3, 10, 40, 150]) if kills < 12 else 10**9), driving(sweep, store) as running:
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

    from tune.sweep_record import SweepRecord

    with (
        patch.object(requests, "delete", counted("delete", requests.delete)),
        patch.object(SweepRecord, "write", counted("write", SweepRecord.write)),
        patch.object(optuna.Study, "ask", counted("ask", optuna.Study.ask)),
        patch.object(optuna.Study, "enqueue_trial", counted("enqueue", optuna.Study.enqueue_trial)),
        patch.object(SweepDriver, "reopen", counted("reopen", SweepDriver.reopen)),
    ):
        yield


def test_taking_up_costs_little(sweep: SweepConfig, tmp_path: Path) -> None:
    """The folder is looked at once a second at most, however often a search asks."""
    store = Store(tmp_path)
    with driving(sweep, store) as running:
        with patch.object(requests, "pending", return_value=[]) as looked:
            for _ in range(1000):
                running.steering.poll()
        assert looked.call_count <= 2
