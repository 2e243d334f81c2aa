"""A driver obeys requests: trials that people give or have run again, and changed settings; budgets stay equal."""

from pathlib import Path
from unittest.mock import patch

import pytest

from supersnn.config_model import parse, with_values
from supersnn.plain_yaml import read_yaml
from supersnn.records import steering
from tests.support.steering import PLAIN, SWEEP, VALUES, driving, events
from tune import requests
from tune.description.sweep import SweepConfig
from tune.execution.local import LocalExecutor
from tune.requests import Request, submit
from tune.search.search import Search
from tune.store import Store
from tune.sweep_runner import SweepRunner


def test_a_given_trial_is_the_arms_next(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with driving(SWEEP, store) as running:
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


def test_a_given_trial_does_not_displace_a_start_design(tmp_path: Path) -> None:
    plain, steered = Store(tmp_path / "plain"), Store(tmp_path / "steered")
    with driving(SWEEP, plain) as running:
        running.trials()
        designs = [running.params("direct", number) for number in range(4)]
    with driving(SWEEP, steered) as running:
        submit(steered.sweep("one"), Request("enqueue", "direct", values={"optimizer.lr": 0.03}))
        running.take_up()
        running.trials()
        found = [running.params("direct", number) for number in range(4)]
    assert found[0]["optimizer.lr"] == 0.03
    assert found[1:] == designs[:3]


def test_requests_between_two_drivers_are_taken_up_by_the_next(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with driving(SWEEP, store) as running:
        running.trials(3)
    folder = store.sweep("one")
    for request in (Request("change", values={"search.trials": 6}), Request("pause", "soft")):
        submit(folder, request)
    with driving(SWEEP, store) as running:
        running.trials()
        assert running.counts()["direct"] == 6
        assert running.counts()["soft"] < 3
        assert running.driver.waits()
        assert parse(SweepConfig, read_yaml(folder.config), "stored").search.trials == 6
    with driving(SWEEP, store) as running:  # with the file as it was: the change still holds
        assert running.trials() == []
        submit(folder, Request("resume"))
        running.take_up()
        running.trials()
        assert running.counts() == {"direct": 6, "soft": 6}
    with driving(with_values(SWEEP, {"search.trials": 7}), store) as running:  # a newer file
        running.trials()
        assert running.counts() == {"direct": 7, "soft": 7}


def test_a_change_after_the_file_was_edited_holds_and_an_earlier_one_never_again(tmp_path: Path) -> None:
    def found(in_file: int, change: int | None = None) -> int:
        with driving(with_values(SWEEP, {"search.trials": in_file}), Store(tmp_path)) as running:
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


def test_fewer_trials_leave_equal_budgets(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with driving(SWEEP, store) as running:
        running.trials(7)
        submit(store.sweep("one"), Request("change", values={"search.trials": 2}))
        running.take_up()
        running.trials()
        assert running.counts() == {"direct": 4, "soft": 4}


def test_a_request_that_is_granted_as_the_search_ends_is_done_before_the_final_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    with driving(SWEEP, store) as running:
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


def test_a_failed_trial_is_run_again_and_does_not_count(tmp_path: Path) -> None:
    store, folder = Store(tmp_path), Store(tmp_path).sweep("one")
    with driving(SWEEP, store) as running:
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


def test_what_was_granted_is_run_although_less_is_to_be_done_now(tmp_path: Path) -> None:
    with driving(SWEEP, Store(tmp_path)) as running:
        running.trials(4)
        given = Request("enqueue", "direct", values=VALUES)
        assert running.ask(given, Request("change", values={"search.trials": 2})) == [None, None]
        running.trials()
        assert running.params("direct", 2)["optimizer.lr"] == 0.05
        assert running.counts() == {"direct": 3, "soft": 3}


@pytest.mark.parametrize("fair", ["trials", "compute"])
def test_no_trial_is_given_to_a_search_that_has_ended(fair: str, tmp_path: Path) -> None:
    settings = {"search.fair": fair, "search.stagnation": 3, "search.trials": 20}
    with driving(with_values(SWEEP, settings), Store(tmp_path)) as running:
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


def test_nothing_is_granted_that_no_hours_are_left_for(tmp_path: Path) -> None:
    def limited(hours: float) -> list[Request]:
        given = Request("change", values={"search.hours": hours}), Request("enqueue", "direct", values=VALUES)
        return [*given, Request("retry", "direct", trial=0)]

    with driving(SWEEP, Store(tmp_path)) as running:
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


def test_what_cannot_be_is_refused_and_recorded(tmp_path: Path) -> None:
    store, folder = Store(tmp_path), Store(tmp_path).sweep("one")
    with driving(SWEEP, store) as running:
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


def test_taking_up_costs_little(tmp_path: Path) -> None:
    """The folder is looked at once a second at most, however often a search asks."""
    store = Store(tmp_path)
    with driving(SWEEP, store) as running:
        with patch.object(requests, "pending", return_value=[]) as looked:
            for _ in range(1000):
                running.steering.poll()
        assert looked.call_count <= 2
