"""The driver's side of a search with simulated workers: what reaches the record and the studies."""

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest

from supersnn.config_model import parse
from supersnn.errors import UserError
from supersnn.records.events import EpochReported, RequestTaken, SweepClosed, SweepStarted
from supersnn.records.failure_events import DriverWaits
from supersnn.records.state import SweepState
from tune.description.searches import planned
from tune.description.sweep import SweepConfig
from tune.execution import retries
from tune.execution.failures import Failure
from tune.execution.retries import RetryPolicy
from tune.execution.trial_failures import TrialFailures
from tune.search import budget
from tune.search.budget import Budget
from tune.search.messages import Report, traceback_name
from tune.search.search import Search
from tune.search.studies import Studies
from tune.storage import Storage
from tune.store import SweepFolder
from tune.sweep_record import SweepRecord


def sweep(**search: Any) -> SweepConfig:
    plain = {
        "name": "tiny",
        "dataset": {"name": "digits"},
        "student": {"architecture": "resnet8"},
        "train": {"epochs": 3},
        "arms": {"direct": {}, "homogeneous": {"teachers": ["resnet14"]}},
        "space": {"neuron.threshold": "default"},
        "search": {"trials": 2, "sampler": "random", "scheduler": "none", **search},
        "resources": {"gpus": 0.5},
    }
    return parse(SweepConfig, plain, "test")


opened: list[SweepRecord] = []


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """Close every record that a test has opened."""
    yield
    while opened:
        opened.pop().close()


def begin(
    folder: Path, config: SweepConfig, storage: optuna.storages.BaseStorage, token: str = "a"
) -> tuple[Search, SweepRecord]:
    """Start a driver; the one before it, if any, has died."""
    while opened:
        opened.pop().close()
    record = SweepRecord(SweepFolder(folder), config.search.constraints)
    studies = Studies(config, planned(config), storage)
    budget = Budget(config, folder, record.state)
    record.open()
    opened.append(record)
    record.write(SweepStarted(driver=token))
    return Search(studies, record, budget, folder, Storage(folder), token), record


def epoch(number: int, value: float = 0.5, ended: str | None = None, seconds: float = 1.0) -> Report:
    return Report(number, {"val/accuracy": value, "time/epoch_s": seconds}, ended)


def events_of(folder: Path, kind: str) -> list[dict[str, Any]]:
    lines = (folder / "journal.jsonl").read_text(encoding="utf-8").splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == kind]


def test_a_search_from_hand_out_to_end(tmp_path: Path) -> None:
    search, _ = begin(tmp_path, sweep(), optuna.storages.InMemoryStorage())
    while (job := search.next_job()) is not None:
        (tmp_path / "trials" / job.key).mkdir(parents=True)
        (tmp_path / "trials" / job.key / "checkpoint-0.safetensors").write_bytes(b"x")
        assert [search.reported(job.key, epoch(n)) for n in (1, 2)] == [False, False]
        assert search.reported(job.key, epoch(3, 0.7, "finished"))
        search.ended(job.key, "failed:late")
        assert search.reported(job.key, epoch(1))
    assert [(e["arm"], e["trial"], e["end"], e["epochs"], e["value"]) for e in events_of(tmp_path, "end")] == [
        (arm, n, "finished", 3, 0.7) for n in (0, 1) for arm in ("direct", "homogeneous")
    ]
    assert not list(tmp_path.glob("trials/*/*"))


def test_an_epoch_that_is_known_changes_nothing_after_a_restart(tmp_path: Path) -> None:
    """The driver died after the journal was written and before the study was updated, or after both."""
    storage = optuna.storages.InMemoryStorage()
    search, record = begin(tmp_path, sweep(), storage)
    job = search.next_job()
    assert job is not None
    search.reported(job.key, epoch(1))
    metrics = {"val/accuracy": 0.6, "time/epoch_s": 1.0}
    record.write(EpochReported(arm="direct", trial=0, epoch=2, metrics=metrics))
    again, _ = begin(tmp_path, sweep(), storage, "b")
    job = again.next_job()
    assert job is not None
    assert job.reported == 1
    again.reported(job.key, epoch(2, 0.6))
    again.reported(job.key, epoch(3, 0.7, "finished"))
    assert [e["epoch"] for e in events_of(tmp_path, "epoch")] == [1, 2, 3]
    trial = optuna.load_study(study_name="tiny/direct", storage=storage).trials[0]
    assert trial.intermediate_values == {1: 0.5, 2: 0.6, 3: 0.7}
    assert trial.value == 0.7


def test_an_end_that_the_journal_missed_is_written_by_the_next_driver(tmp_path: Path) -> None:
    storage = optuna.storages.InMemoryStorage()
    search, _ = begin(tmp_path, sweep(), storage)
    job = search.next_job()
    assert job is not None
    search.reported(job.key, epoch(1))
    search.studies.finish(job.key, "failed:nan")
    again, _ = begin(tmp_path, sweep(), storage, "b")
    again.reconcile()
    assert [(e["arm"], e["trial"], e["end"], e["epochs"]) for e in events_of(tmp_path, "end")] == [
        ("direct", 0, "failed:nan", 1)
    ]


def test_a_trial_that_gave_up_keeps_its_traceback_and_its_reason(tmp_path: Path) -> None:
    search, _ = begin(tmp_path, sweep(max_failures=0), optuna.storages.InMemoryStorage())
    job = search.next_job()
    assert job is not None
    folder = tmp_path / "trials" / job.key
    folder.mkdir(parents=True)
    (folder / "traceback.txt").write_text("Traceback\n  …\nValueError: no\n", encoding="utf-8")
    policy = RetryPolicy(9)
    TrialFailures(search, policy).failed(job.key, Failure("own", "ValueError: no"))
    assert policy.max_failures == 0, "that of the sweep as it is now"
    assert events_of(tmp_path, "end")[0]["end"] == "failed:ValueError: no"
    assert (folder / "traceback.txt").exists()
    assert search.studies.counts["direct"].failed == 1


class Away(Storage):
    """A storage that cannot be reached: what would wait for it fails."""

    def remove(self, folder: str, pattern: str) -> None:
        raise OSError(f"{folder}/{pattern}: the server is away")

    def remove_later(self, folder: str, pattern: str) -> None:
        super().remove(folder, pattern)


def test_a_trial_is_resumed_while_the_storage_is_away(tmp_path: Path) -> None:
    """Each attempt has a traceback of its own; those of attempts that were got over are removed when the trial ends."""
    search, _ = begin(tmp_path, sweep(), optuna.storages.InMemoryStorage())
    search._storage = Away(tmp_path)
    failures = TrialFailures(search, RetryPolicy(9))
    folder, names = tmp_path / "trials" / "direct" / "0", list[str]()
    folder.mkdir(parents=True)
    for attempt in (1, 2, 3):
        job = search.next_job()
        assert job is not None
        assert (job.key, job.attempt) == ("direct/0", attempt)
        names.append(traceback_name(job.attempt))
        (folder / names[-1]).write_text("Traceback", encoding="utf-8")
        if attempt < 3:
            failures.failed(job.key, Failure("own", "ValueError: no"))
    assert names == ["traceback.txt", "traceback-2.txt", "traceback-3.txt"]
    search.ended("direct/0", "failed:ValueError: no")
    assert [path.name for path in folder.iterdir()] == ["traceback-3.txt"]


def test_a_failed_attempt_is_recorded_and_its_trial_is_the_next_or_the_last(tmp_path: Path) -> None:
    search, record = begin(tmp_path, sweep(max_failures=0), optuna.storages.InMemoryStorage())
    failures = TrialFailures(search, RetryPolicy(0), lambda: {"id": "node-1", "other": "node-2"})
    job = search.next_job()
    assert job is not None
    search.reported(job.key, epoch(1))
    failures.failed(job.key, Failure("gpu", "RuntimeError: CUDA error"), "id")
    assert record.state.search("direct").running == {}
    again = search.next_job()
    assert again is not None
    assert (again.key, again.reported) == (job.key, 1)
    failures.failed(job.key, Failure("worker", "the worker died"))
    attempts = events_of(tmp_path, "attempt")
    assert [(e["attempt"], e["kind"], e["node"], e["epochs"]) for e in attempts] == [
        (1, "gpu", "node-1", 1),
        (2, "worker", None, 1),
    ]
    trial = record.state.trial("direct", 0)
    assert trial is not None
    assert (trial.attempts, trial.failure, trial.end) == (2, "the worker died", None)
    assert record.state.failed_on == {"node-1": 1, "": 1}
    following = [search.next_job() for _ in range(4)]
    assert [other.key for other in following if other] == ["homogeneous/0", "direct/1", "homogeneous/1", "direct/0"]
    assert search.next_job() is None


def test_the_slowest_epoch_of_a_search_is_that_of_all_its_epochs(tmp_path: Path) -> None:
    search, _ = begin(tmp_path, sweep(), optuna.storages.InMemoryStorage())
    first, other = search.next_job(), search.next_job()
    assert first is not None
    assert other is not None
    assert search.slowest_epoch(first.key) is None
    for number, seconds in enumerate((9.0, 1.0), start=1):
        search.reported(first.key, epoch(number, seconds=seconds))
    assert search.slowest_epoch("direct/7") == 9.0
    assert search.slowest_epoch(other.key) is None, "of another search"


def test_a_trial_is_held_until_it_may_be_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    search, record = begin(tmp_path, sweep(trials=1), optuna.storages.InMemoryStorage())
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    policy = RetryPolicy(0)
    policy.succeeded("other/0")
    failures = TrialFailures(search, policy)
    first, second = search.next_job(), search.next_job()
    assert first is not None
    assert second is not None
    for _ in range(2):
        failures.failed(first.key, Failure("io", "OSError: [Errno 5] Input/output error"))
        again = search.next_job()
    assert again is None
    assert search.held == [first.key]
    assert not search.is_running(first.key)
    assert record.state.search("direct").running == {}
    assert search.reported(first.key, epoch(1)), "a worker that was taken for lost stops"
    now[0] += retries.WAIT
    again = search.next_job()
    assert again is not None
    assert again.key == first.key
    assert search.held == []
    failures.failed(first.key, Failure("io", "OSError: [Errno 5] Input/output error"))
    assert search.held == [first.key]
    search.halt(UserError("enough"))
    assert search.over
    assert search.held == []
    assert search.studies.under_way()


def test_a_failed_trial_counts_at_the_node_of_its_last_attempt(tmp_path: Path) -> None:
    """One has trained on the first node and failed at once on the second, one has failed there without any epoch."""
    search, record = begin(tmp_path, sweep(max_failures=0), optuna.storages.InMemoryStorage())
    names = {"a": "node-1 (10.0.0.1)", "b": "node-2 (10.0.0.2)"}
    failures = TrialFailures(search, RetryPolicy(0), lambda: names)
    first, second = search.next_job(), search.next_job()
    assert first is not None
    assert second is not None
    search.reported(first.key, Report(1, epoch(1).metrics, None, {"node": "node-1"}))
    for job in (first, second):
        failures.failed(job.key, Failure("own", "ValueError: no"), "b")
    third = search.next_job()
    assert third is not None
    search.reported(third.key, Report(1, epoch(1).metrics, "failed:nan", {"node": "node-1"}))
    assert {name: (node.trials, node.failed) for name, node in record.state.nodes.items()} == {
        "node-1": (2, 1),
        "node-2": (0, 2),
    }
    assert [event.get("node") for event in events_of(tmp_path, "end")] == ["node-2", "node-2", None]


def test_a_trial_on_a_node_that_is_much_slower_than_the_others_goes_on_elsewhere(tmp_path: Path) -> None:
    search, _ = begin(tmp_path, sweep(), optuna.storages.InMemoryStorage())
    policy = RetryPolicy(0)
    failures = TrialFailures(search, policy, lambda: {"fast": "node-1", "slow": "node-2"})
    first, _, second = search.next_job(), search.next_job(), search.next_job()
    assert first is not None
    assert second is not None
    for number in range(1, 4):
        assert not failures.slow(first.key, "fast", Report(number, {"time/epoch_s": 1.0}, None))
    place = {"node": "node-2"}
    assert not failures.slow(second.key, "slow", Report(1, {"time/epoch_s": 90.0}, None, place)), "it has just begun"
    slow = [failures.slow(second.key, "slow", Report(number, {"time/epoch_s": 9.0}, None)) for number in range(2, 5)]
    assert slow == [False, False, True]
    assert policy.breaker.left_out == {"slow": "its epochs take 9.0 times as long as those of the other nodes"}
    again = search.next_job()
    assert again is not None
    assert again.key == second.key
    assert events_of(tmp_path, "attempt") == []


def test_where_everything_fails_the_search_is_halted_and_no_budget_is_spent(tmp_path: Path) -> None:
    search, _ = begin(tmp_path, sweep(), optuna.storages.InMemoryStorage())
    failures = TrialFailures(search, RetryPolicy(0))
    while (job := search.next_job()) is not None:
        failures.failed(job.key, Failure("import", "ImportError: libcudart"))
    assert "everything fails: 5 attempts" in str(search.halted)
    assert "import error: ImportError: libcudart" in str(search.halted)
    assert search.over
    assert events_of(tmp_path, "end") == []
    assert all(counts.failed == counts.running == 0 for counts in search.studies.counts.values())


def test_what_the_driver_waits_for_is_recorded_once(tmp_path: Path) -> None:
    search, record = begin(tmp_path, sweep(), optuna.storages.InMemoryStorage())
    for reason in ("", "a node", "a node", "", ""):
        search.waits(reason)
    assert [event["reason"] for event in events_of(tmp_path, "wait")] == ["a node", ""]
    search.waits("a node")
    record.write(SweepStarted(driver="b"))
    assert record.state.waiting == ""


@pytest.mark.parametrize("objectives", [["accuracy"], ["accuracy", "synaptic_ops"]])
def test_a_trial_that_is_handed_back_is_the_next_with_what_is_known_of_it(
    tmp_path: Path, objectives: list[str]
) -> None:
    config = sweep()
    config = config.model_copy(update={"search": config.search.model_copy(update={"objectives": tuple(objectives)})})
    search, _ = begin(tmp_path, config, optuna.storages.InMemoryStorage())
    other, job = search.next_job(), search.next_job()
    assert other is not None
    assert job is not None
    metrics = {"val/accuracy": 0.5, "ops/synaptic": 1.0, "spikes/rate": 0.1}
    search.reported(job.key, Report(1, metrics, None))
    search.requeue(job.key)
    TrialFailures(search, RetryPolicy(0)).failed(job.key, Failure("worker", "the worker died"))
    again = search.next_job()
    assert again is not None
    assert (again.key, again.config, again.reported) == (job.key, job.config, 1)
    assert events_of(tmp_path, "end") == []
    assert sum(counts.running for counts in search.studies.counts.values()) == 2


def test_a_halt_hands_back_what_is_under_way_and_keeps_the_first_reason(tmp_path: Path) -> None:
    storage = optuna.storages.InMemoryStorage()
    search, _ = begin(tmp_path, sweep(), storage)
    jobs = [search.next_job(), search.next_job()]
    search.halt(UserError("no node is left"))
    search.halt(UserError("another reason"))
    assert str(search.halted) == "no node is left"
    assert search.next_job() is None
    assert events_of(tmp_path, "end") == []
    again, _ = begin(tmp_path, sweep(), storage, "b")
    assert {job.key for job in (again.next_job(), again.next_job()) if job} == {job.key for job in jobs if job}


def test_a_full_disk_halts_the_search_and_fails_no_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = optuna.storages.InMemoryStorage()
    search, _ = begin(tmp_path, sweep(), storage)
    job = search.next_job()
    assert job is not None
    folder = tmp_path / "trials" / job.key
    folder.mkdir(parents=True)
    (folder / "traceback.txt").write_text("Traceback", encoding="utf-8")
    full, failures = "OSError: [Errno 28] No space left on device", TrialFailures(search, RetryPolicy(0))
    failures.failed(job.key, Failure("disk", f"{full}: '/tmp/x'"))
    assert search.halted is None, "the disk of a node"
    assert search.next_job() == replace(job, attempt=2)
    failures.failed(job.key, Failure("disk", f"{full}: '{folder}/checkpoint'"))
    assert "disk is full" in str(search.halted)
    assert search.next_job() is None
    again, _ = begin(tmp_path, sweep(), storage, "b")
    same = again.next_job()
    assert same is not None
    assert same == replace(job, attempt=3, token="b")
    monkeypatch.setattr(budget, "LOWEST_FREE", 2**62)
    assert again.next_job() is None
    assert "are free" in str(again.halted)


def test_gpu_hours_count_what_each_trial_took_when_it_ran(tmp_path: Path) -> None:
    """Later drivers may take more or fewer GPUs: that changes nothing about the past."""
    config, storage = sweep(gpu_hours=0.5), optuna.storages.InMemoryStorage()
    search, record = begin(tmp_path, config, storage)
    search.gpus = 0.25
    job = search.next_job()
    assert job is not None
    place = {"node": "n", "process": "7"}
    search.reported(job.key, Report(1, {"val/accuracy": 0.5, "time/epoch_s": 3600.0}, None, place))
    assert (record.state.costs.gpu_hours(), record.state.costs.unknown) == (0.25, 0.0)
    assert [event["gpus"] for event in events_of(tmp_path, "start")] == [0.25]
    assert [event["place"] for event in events_of(tmp_path, "epoch")] == [place]
    later, record = begin(tmp_path, config, storage, "b")
    later.gpus = 2.0
    assert record.state.costs.gpu_hours() == 0.25
    assert later.next_job() is not None
    again = later.next_job()
    assert again is not None
    later.reported(again.key, Report(1, {"val/accuracy": 0.5, "time/epoch_s": 100.0}, None))
    assert record.state.costs.gpu_hours() == pytest.approx(1100 / 3600)


def test_hours_and_gpu_hours_end_a_search_and_interrupted_trials_still_go_on(tmp_path: Path) -> None:
    storage = optuna.storages.InMemoryStorage()
    config = sweep(gpu_hours=0.5)
    search, _ = begin(tmp_path, config, storage)
    first, second = search.next_job(), search.next_job()
    assert first is not None
    assert second is not None
    search.reported(first.key, epoch(1, seconds=3600.0))
    assert search.next_job() is None
    again, _ = begin(tmp_path, config, storage, "b")
    assert {job.key for job in (again.next_job(), again.next_job()) if job} == {first.key, second.key}
    assert again.next_job() is None


def test_downtime_is_not_counted_in_hours(tmp_path: Path) -> None:
    config = sweep(hours=1.0)

    def spent(*sessions: tuple[float, float]) -> str | None:
        state = SweepState()
        for began, ended in sessions:
            state.apply(SweepStarted(time=began))
            state.apply(SweepClosed(time=ended, end="done"))
        return Budget(config, tmp_path, state).spent()

    assert spent((0, 1700), (90_000, 91_700)) is None
    assert "1.0" in str(spent((0, 1900), (90_000, 91_900)))


def test_paused_time_is_not_counted_in_hours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half an hour of work, a night of waiting, a quarter of an hour of work: alike now and for the next driver."""
    config, now, state = sweep(hours=0.7), 0.0, SweepState()
    monkeypatch.setattr("tune.search.budget.time", SimpleNamespace(monotonic=lambda: now))
    state.apply(SweepStarted(time=now))
    live = Budget(config, tmp_path, state)
    now = 1800.0
    state.apply(DriverWaits(time=now, reason="a paused arm", paused=True))
    with live.held():
        now = 41_800.0
        assert live.spent() is None
        state.apply(RequestTaken(time=now, id="1", kind="resume", searches=["direct"]))
        assert state.driver_seconds(now=now + 5) == 1800
    state.apply(DriverWaits(time=now, reason=""))
    assert live.spent() is None
    now += 900
    assert state.driver_seconds(now=now) == 2700
    state.apply(SweepClosed(time=now, end="interrupted"))
    text = "search.hours: 0.75 of 0.7 are spent"
    assert (live.spent(), Budget(config, tmp_path, state).spent()) == (text, text)


def test_an_end_says_whether_the_trial_is_within_the_constraints(tmp_path: Path) -> None:
    config = sweep(constraints={"spikes/rate": 0.3}, trials=3)
    search, record = begin(tmp_path, config, optuna.storages.InMemoryStorage())
    rates = iter((0.2, 0.2, 0.4, 0.4, 0.3, 0.3))
    while (job := search.next_job()) is not None:
        rate = next(rates)
        search.reported(job.key, Report(3, {"val/accuracy": 0.5 + rate, "spikes/rate": rate}, "finished"))
    ends = [(e["trial"], e["feasible"]) for e in events_of(tmp_path, "end") if e["arm"] == "direct"]
    assert ends == [(0, True), (1, False), (2, True)]
    for arm in ("direct", "homogeneous"):
        assert search.studies.best[arm] == (0.8, 2)
        best = record.state.searches[arm].best_trial
        assert best is not None
        assert (best.value, best.number) == (0.8, 2)


def test_of_equal_trials_study_and_state_have_the_first_one(tmp_path: Path) -> None:
    search, record = begin(tmp_path, sweep(trials=3), optuna.storages.InMemoryStorage())
    jobs = [job for _ in range(6) if (job := search.next_job()) is not None]
    for job in reversed(jobs):
        search.reported(job.key, epoch(3, 0.7, "finished"))
    assert {number for _, number in search.studies.best.values()} == {0}
    assert {arm.best for arm in record.state.searches.values()} == {0}
    assert [number for _, number in search.studies.ranking("direct")] == [0, 1, 2]
