"""The hand-out of trials: fair at any moment, and whole again after a driver died."""

from pathlib import Path

import optuna
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supersnn.config import parse
from tune.arms import resolve
from tune.studies import Assignment, Studies, open_storage
from tune.sweep import SweepConfig

ARMS = {"direct": {}, "homogeneous": {"teachers": ["resnet14"]}, "heterogeneous": {"teachers": ["vgg8", "wrn16_2"]}}


def sweep(trials: int = 5, scheduler: str = "none", sampler: str = "random", epochs: int = 9) -> SweepConfig:
    plain = {
        "name": "tiny",
        "dataset": {"name": "digits"},
        "student": {"architecture": "resnet8"},
        "train": {"epochs": epochs},
        "arms": ARMS,
        "space": {"neuron.threshold": "default", "optimizer.lr": "default", "loss.relation.weight": "default"},
        "search": {"trials": trials, "scheduler": scheduler, "sampler": sampler},
    }
    return parse(SweepConfig, plain, "test")


def studies(config: SweepConfig, storage: optuna.storages.BaseStorage | None = None, driver: str = "a") -> Studies:
    return Studies(config, resolve(config), storage or optuna.storages.InMemoryStorage(), driver)


actions = st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["finished", "stopped", "failed:nan", "die"])))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(actions)
def test_arms_never_differ_by_more_than_one_whatever_happens(steps: list[tuple[int, str]]) -> None:
    """Hand out some trials, end one of those running, or lose the driver: the arms stay together."""
    config, storage = sweep(), optuna.storages.InMemoryStorage()
    live = studies(config, storage)
    running: list[Assignment] = []
    for hand_out, end in steps:
        for _ in range(hand_out):
            if (assignment := live.next()) is not None:
                running.append(assignment)
        handed = [counts.handed_out for counts in live.counts.values()]
        assert max(handed) - min(handed) <= 1
        if end == "die":
            lost, running = {assignment.key for assignment in running}, []
            live = studies(config, storage, driver=str(len(steps)))
            assert [counts.handed_out for counts in live.counts.values()] == handed
            running = [assignment for assignment in (live.next() for _ in lost) if assignment is not None]
            assert {assignment.key for assignment in running} == lost
            handed_now = [counts.handed_out for counts in live.counts.values()]
            assert max(handed_now) - min(handed_now) <= 1
        elif running:
            first = running.pop(0)
            live.report(first.key, 1, 0.5)
            live.finish(first.key, end, 0.5)
    assert all(counts.handed_out <= 5 for counts in live.counts.values())


def test_every_arm_gets_its_trials_and_no_more() -> None:
    live = studies(sweep(trials=4))
    keys = []
    while (assignment := live.next()) is not None:
        keys.append(assignment.key)
        live.finish(assignment.key, "finished", 0.1 * len(keys) / 2)
    assert sorted(keys) == sorted(f"{arm}/{n}" for arm in ARMS for n in range(4))
    assert live.done()
    assert {arm: number for arm, (_, number) in live.best.items()} == dict.fromkeys(ARMS, 3)


def test_an_interrupted_trial_comes_back_with_its_number_values_and_epochs() -> None:
    config, storage = sweep(sampler="tpe"), optuna.storages.InMemoryStorage()
    first = studies(config, storage)
    before = first.next()
    assert before is not None
    first.report(before.key, 1, 0.3)
    first.report(before.key, 2, 0.4)
    after = studies(config, storage, "b").next()
    assert after is not None
    assert (after.key, after.values, after.config, after.told) == (before.key, before.values, before.config, 2)


def test_a_restart_does_not_draw_the_same_points_again() -> None:
    config, storage = sweep(), optuna.storages.InMemoryStorage()
    first, drawn = studies(config, storage, "a"), []
    for _ in range(3):
        assignment = first.next()
        assert assignment is not None
        first.finish(assignment.key, "finished", 0.5)
        drawn.append(assignment.values)
    again = studies(config, storage, "b").next()
    assert again is not None
    assert again.values["neuron.threshold"] not in [values["neuron.threshold"] for values in drawn]


def test_a_death_between_the_decision_to_stop_and_its_record_still_stops() -> None:
    config, storage = sweep(scheduler="asha", trials=9), optuna.storages.InMemoryStorage()
    live = studies(config, storage)
    stopped = None
    for value in (0.9, 0.8, 0.7, 0.2, 0.1, 0.05, 0.04, 0.03, 0.02):
        assignment = live.next()
        assert assignment is not None
        if live.report(assignment.key, 1, value) and stopped is None:
            stopped = assignment.key
    assert stopped is not None
    arm, number = stopped.split("/")
    again = studies(config, storage, "b")
    assert again.counts[arm].stopped >= 1
    assert stopped in again.ended()
    assert again.ended()[stopped].state.name == "PRUNED"
    assert number == str(again.ended()[stopped].number)


@pytest.mark.parametrize("scheduler", ["asha", "hyperband", "median"])
def test_early_stopping_ranks_an_arm_by_itself(scheduler: str) -> None:
    """One arm's values lie far below the others': it is stopped no more often than they are."""
    live = studies(sweep(trials=20, scheduler=scheduler))
    level = {"direct": 0.1, "homogeneous": 0.6, "heterogeneous": 0.6}
    while (assignment := live.next()) is not None:
        spread = (assignment.number * 7 % 20) / 100
        value = level[assignment.arm] + spread
        stopped = any(live.report(assignment.key, epoch, value) for epoch in range(1, 10))
        live.finish(assignment.key, "stopped" if stopped else "finished", value)
    stopped_by_arm = [counts.stopped for counts in live.counts.values()]
    assert min(stopped_by_arm) > 0
    assert max(stopped_by_arm) - min(stopped_by_arm) <= 3


def test_rungs_survive_a_restart_on_disk(tmp_path: Path) -> None:
    config = sweep(scheduler="asha", trials=12)
    url = f"sqlite:///{tmp_path / 'optuna.db'}"
    live = studies(config, open_storage(url))
    for value in (0.9, 0.91, 0.92, 0.8, 0.81, 0.82, 0.7, 0.71, 0.72):
        assignment = live.next()
        assert assignment is not None
        live.report(assignment.key, 1, value)
        live.finish(assignment.key, "stopped", value)
    again = studies(config, open_storage(url), "b")
    low = again.next()
    assert low is not None
    assert again.report(low.key, 1, 0.1)


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc", "gp", "cmaes", "grid"])
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_every_sampler_fills_the_budget(sampler: str) -> None:
    live = studies(sweep(trials=6, sampler=sampler))
    while (assignment := live.next()) is not None:
        live.finish(assignment.key, "finished", 0.5 + assignment.number / 100)
    assert all(counts.finished == 6 for counts in live.counts.values())
