"""What events add up to; the best trial is defined here."""

from typing import Any

import pytest

from supersnn.records.events import (
    AnyEvent,
    DatasetSplit,
    EpochReported,
    SweepClosed,
    SweepStarted,
    TrialEnded,
    TrialStarted,
    WinnerChosen,
    WinnerExported,
    WinnerVerified,
)
from supersnn.records.state import SweepState, TrialRecord, better, rank


def state_of(events: list[AnyEvent], **constraints: float) -> SweepState:
    state = SweepState(constraints)
    for event in events:
        state.apply(event)
    return state


def test_a_sweep_from_its_events(events: list[AnyEvent]) -> None:
    state = state_of(events)
    a, b = state.arms["a"], state.arms["b"]
    assert (a.best, a.best_value) == (0, 0.7)
    assert (b.best, b.best_value) == (None, None)
    assert a.counts == {"finished": 2, "stopped": 0, "failed": 0}
    assert b.counts == {"finished": 0, "stopped": 1, "failed": 1}
    assert (a.epochs, a.ended_epochs, a.ended, b.epochs) == (4, 4, 2, 2)
    assert a.winner is not None
    assert [run.seed for run in a.final_runs()] == [1000]
    assert a.ranked[0][5].value == 0.66
    trial = a.trials[1]
    assert (trial.pairing, trial.student_family, trial.teacher_family) == ("heterogeneous", "resnet", "vgg")
    assert (trial.state, trial.feasible, trial.value, trial.eligible) == ("finished", False, 0.9, False)
    assert trial.params == {"optimizer.lr": 0.2}
    assert trial.first_seed == trial.metrics
    assert b.trials[1].end == "failed:nan"
    assert b.trials[1].state == "failed"
    assert b.trials[0].first_seed is None
    assert (state.split, state.ended, state.searching) == ("s", "done", False)
    assert state.training_seconds == 3.0
    assert state.cache_seconds("vgg8") == 1.5
    teacher = state.teacher_named("vgg8")
    assert teacher is not None
    assert teacher.digest == "t"
    assert state.teacher_named("vgg8", refitted=True) is None
    assert len(list(state.trials())) == 4
    (driver,) = state.drivers
    assert (driver.began, driver.training, driver.searched, driver.last) == (100.0, 104.0, 111.0, 132.0)
    assert (driver.epochs, driver.ended) == (6 + 2 + 2, 4)
    assert state.driver_seconds() == 32.0
    assert state.driver_seconds(now=142.0) == 42.0


def test_what_is_said_again_changes_nothing(events: list[AnyEvent]) -> None:
    state, again = state_of(events[:-1]), state_of(events[:-1])
    for event in events[1:-1]:
        if not isinstance(event, TrialStarted):
            again.apply(event)
    assert again.arms == state.arms
    assert again.training_seconds == state.training_seconds
    assert again.drivers[0].epochs == state.drivers[0].epochs
    epoch = next(event for event in events if isinstance(event, EpochReported))
    assert not again.apply(epoch)
    assert again.arms["a"].running == {}


def test_ends_of_schema_1_are_judged_by_the_constraints(events: list[AnyEvent]) -> None:
    old = [event.model_copy(update={"feasible": None}) if isinstance(event, TrialEnded) else event for event in events]
    assert state_of(old).arms["a"].best == 1
    assert state_of(old, **{"spikes/rate": 0.3}).arms["a"].best == 0
    assert state_of(old, **{"spikes/rate": 0.05}).arms["a"].best is None


def test_a_new_driver_has_nothing_running(events: list[AnyEvent]) -> None:
    state = state_of(events[:6])
    assert state.arms["a"].running == {0: 1}
    state.apply(SweepStarted(driver="two"))
    assert state.arms["a"].running == {}
    assert state.ended is None


def test_a_trial_that_runs_again_is_counted_once(events: list[AnyEvent]) -> None:
    state = state_of(events[:8])
    assert state.arms["a"].best == 0
    start = next(event for event in events if isinstance(event, TrialStarted))
    state.apply(start)
    assert state.arms["a"].best_trial is None
    assert (state.arms["a"].counts["finished"], state.arms["a"].ended_epochs) == (0, 0)
    state.apply(TrialEnded(arm="a", trial=0, end="finished", epochs=2, value=0.7, feasible=True))
    assert (state.arms["a"].best, state.arms["a"].ended) == (0, 1)


def test_events_without_a_start_are_noted() -> None:
    state = SweepState()
    assert not state.apply(EpochReported(arm="a", trial=3, epoch=1, metrics={}))
    assert not state.apply(TrialEnded(arm="a", trial=3, end="finished"))
    assert state.orphans == {("a", 3, "epoch"), ("a", 3, "end")}
    assert state.arms["a"].trials == {}


def record(number: int, value: float) -> TrialRecord:
    nothing: dict[str, Any] = dict.fromkeys(
        ("student", "student_family", "teacher", "teacher_family", "dataset", "seed", "epochs_per_seed")
    )
    return TrialRecord(number=number, started=0.0, pairing="none", params={}, value=value, **nothing)


@pytest.mark.parametrize(("first", "second"), [((0, 0.9), (1, 0.8)), ((2, 0.8), (3, 0.8))])
def test_the_better_trial_has_the_higher_value_or_the_smaller_number(
    first: tuple[int, float], second: tuple[int, float]
) -> None:
    assert better(record(*first), record(*second))
    assert not better(record(*second), record(*first))
    assert better(record(*second), None)
    assert sorted([rank(second[1], second[0]), rank(first[1], first[0])])[0] == rank(first[1], first[0])


def test_a_trial_of_several_seeds_is_judged_by_their_means() -> None:
    state = SweepState()
    config = {"student.architecture": "resnet8", "train.epochs": 1}
    state.apply(TrialStarted(arm="a", trial=0, config=config))
    for epoch, (own, mean) in enumerate(((0.5, 0.5), (0.9, 0.7)), start=1):
        metrics = {"val/accuracy": own, "mean/val/accuracy": mean}
        state.apply(EpochReported(arm="a", trial=0, epoch=epoch, metrics=metrics))
    trial = state.arms["a"].trials[0]
    assert trial.value == 0.7
    assert trial.first_seed is not None
    assert trial.first_seed["val/accuracy"] == 0.5
    assert trial.pairing == "none"


def test_a_sweeps_identity_is_its_first_drivers() -> None:
    """In journals of versions that had none it follows from the first event, and later drivers repeat it."""
    older: list[AnyEvent] = [SweepStarted(driver="a", time=1.0), SweepStarted(driver="b", time=2.0)]
    assert state_of([]).identity is None
    derived = state_of(older).identity
    assert derived == state_of(older[:1]).identity != state_of(older[1:]).identity
    continued = state_of([*older, SweepStarted(driver="c", sweep_id=derived, config="x")])
    assert (continued.identity, continued.config) == (derived, "x")
    assert state_of([SweepStarted(driver="a", sweep_id="i", config="x"), SweepStarted(config="y")]).config == "y"


def test_starts_and_ends_of_drivers_are_no_work() -> None:
    begun: list[AnyEvent] = [SweepStarted(driver="a"), SweepClosed(driver="a", end="failed")]
    assert not state_of(begun).ran
    assert state_of([*begun, DatasetSplit(split="s")]).ran
    assert state_of([*begun, TrialStarted(arm="a", trial=0, config={})]).ran


def test_an_export_is_of_the_last_verified_training() -> None:
    winner = WinnerChosen(arm="a", trial=0)
    runs = [WinnerVerified(arm="a", trial=0, seed=seed, metrics={}) for seed in (1, 2)]
    exported = WinnerExported(arm="a", folder="best/a", seed=1)
    assert not state_of([winner, runs[0]]).arms["a"].exported
    assert state_of([winner, runs[0], exported, winner, runs[0]]).arms["a"].exported
    assert not state_of([winner, runs[0], exported, runs[1]]).arms["a"].exported
    assert not state_of([winner, runs[0], exported, WinnerChosen(arm="a", trial=1)]).arms["a"].exported
