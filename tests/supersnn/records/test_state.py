"""What events add up to; the best trial is defined here."""

from typing import Any

import pytest

from supersnn.records.events import (
    AnyEvent,
    DatasetSplit,
    EpochReported,
    SweepClosed,
    SweepStarted,
    TeacherCached,
    TeacherTrained,
    TrialEnded,
    TrialStarted,
    WinnerChosen,
    WinnerExported,
    WinnerVerified,
)
from supersnn.records.state import SweepState
from supersnn.records.trial_state import TrialRecord, better, rank


def state_of(events: list[AnyEvent], **constraints: float) -> SweepState:
    state = SweepState(constraints)
    for event in events:
        state.apply(event)
    return state


def test_a_sweep_from_its_events(events: list[AnyEvent]) -> None:
    state = state_of(events)
    a, b = state.searches["a"], state.searches["b"]
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
    assert again.searches == state.searches
    assert again.training_seconds == state.training_seconds
    assert again.drivers[0].epochs == state.drivers[0].epochs
    epoch = next(event for event in events if isinstance(event, EpochReported))
    assert not again.apply(epoch)
    assert again.searches["a"].running == {}


def test_ends_of_schema_1_are_judged_by_the_constraints(events: list[AnyEvent]) -> None:
    old = [event.model_copy(update={"feasible": None}) if isinstance(event, TrialEnded) else event for event in events]
    assert state_of(old).searches["a"].best == 1
    assert state_of(old, **{"spikes/rate": 0.3}).searches["a"].best == 0
    assert state_of(old, **{"spikes/rate": 0.05}).searches["a"].best is None


def test_a_new_driver_has_nothing_running(events: list[AnyEvent]) -> None:
    state = state_of(events[:6])
    assert state.searches["a"].running == {0: 1}
    state.apply(SweepStarted(driver="two"))
    assert state.searches["a"].running == {}
    assert state.ended is None


def test_a_trial_that_runs_again_is_counted_once(events: list[AnyEvent]) -> None:
    state = state_of(events[:8])
    assert state.searches["a"].best == 0
    start = next(event for event in events if isinstance(event, TrialStarted))
    state.apply(start)
    assert state.searches["a"].best_trial is None
    assert (state.searches["a"].counts["finished"], state.searches["a"].ended_epochs) == (0, 0)
    state.apply(TrialEnded(arm="a", trial=0, end="finished", epochs=2, value=0.7, feasible=True))
    assert (state.searches["a"].best, state.searches["a"].ended) == (0, 1)


def test_events_without_a_start_are_noted() -> None:
    state = SweepState()
    assert not state.apply(EpochReported(arm="a", trial=3, epoch=1, metrics={}))
    assert not state.apply(TrialEnded(arm="a", trial=3, end="finished"))
    assert state.orphans == {("a", 3, "epoch"), ("a", 3, "end")}
    assert state.searches["a"].trials == {}


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
    trial = state.searches["a"].trials[0]
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
    assert not state_of([winner, runs[0]]).exported("a")
    assert state_of([winner, runs[0], exported, winner, runs[0]]).exported("a")
    assert not state_of([winner, runs[0], exported, runs[1]]).exported("a")
    assert not state_of([winner, runs[0], exported, WinnerChosen(arm="a", trial=1)]).exported("a")


def replicated() -> list[AnyEvent]:
    """Return a sweep of two arms on two data sets in two replicates: each search has one verified trial."""
    events: list[AnyEvent] = [SweepStarted(driver="one", datasets={"digits": "d", "fashion": "f"}, replicates=2)]
    for place, (dataset, replicate) in enumerate((d, r) for d in ("digits", "fashion") for r in (0, 1)):
        where: dict[str, Any] = {"dataset": dataset, "replicate": replicate}
        events += [DatasetSplit(label=dataset, replicate=replicate, split=f"s{place}")]
        events += [TeacherTrained(name="vgg8", digest=f"t{place}", family="vgg", **where)]
        events += [TeacherCached(teacher="vgg8", digest=f"c{place}", seconds=place, **where)]
        for arm, value in (("a", 0.5 + place / 100), ("b", 0.6 - place / 100)):
            events += [TrialStarted(arm=arm, trial=0, config={"train.epochs": 1}, **where)]
            events += [EpochReported(arm=arm, trial=0, epoch=1, metrics={"val/accuracy": value}, **where)]
            events += [TrialEnded(arm=arm, trial=0, end="finished", value=value, **where)]
            events += [WinnerChosen(arm=arm, trial=0, value=1 - value, **where)]
            events += [WinnerVerified(arm=arm, trial=0, seed=1, metrics={"val/accuracy": value}, **where)]
    return events


def test_each_search_has_its_own_record() -> None:
    state = state_of(replicated())
    assert (list(state.datasets), state.replicates) == (["digits", "fashion"], 2)
    assert list(state.searches) == [
        *("a", "b", "a~1", "b~1", "a~fashion~0", "b~fashion~0", "a~fashion~1", "b~fashion~1"),
    ]
    last = state.searches["a~fashion~1"]
    assert (last.name, last.arm, last.dataset, last.replicate) == ("a~fashion~1", "a", "fashion", 1)
    assert (last.best_value, len(last.final_runs())) == (0.53, 1)
    assert state.searches["a"].dataset == "digits"
    assert [key for key, _ in state.trials()] == [(name, 0) for name in state.searches]
    assert state.trial("b~1", 0) is state.searches["b~1"].trials[0]
    unknown = state.search("c~fashion~1")
    assert (unknown.arm, unknown.dataset, unknown.replicate) == ("c", "fashion", 1)
    assert "c~fashion~1" not in state.searches


def test_splits_teachers_and_caches_of_a_replicate() -> None:
    state = state_of(replicated())
    for place, (dataset, replicate) in enumerate((d, r) for d in ("digits", "fashion") for r in (0, 1)):
        assert state.split_of(dataset, replicate) == f"s{place}"
        teacher = state.teacher_named("vgg8", dataset=dataset, replicate=replicate)
        assert teacher is not None
        assert teacher.digest == f"t{place}"
        assert state.cache_seconds("vgg8", dataset, replicate) == place
    assert (state.split, state.split_of()) == ("s0", "s0")
    assert state.split_of("other") is None
    shared = state_of([event for event in replicated() if getattr(event, "replicate", 0) == 0])
    assert shared.split_of("fashion", 5) == "s2"
    assert shared.cache_seconds("vgg8", "fashion", 5) == 2


def test_the_best_search_of_a_data_set_is_chosen_by_validation() -> None:
    state = state_of(replicated())
    for by_search, dataset, arm, name in [
        (False, None, None, "b"),
        (False, "digits", "a", "a~1"),
        (False, "fashion", None, "b~fashion~0"),
        (False, "fashion", "a", "a~fashion~1"),
        (True, "fashion", "a", "a~fashion~0"),
    ]:
        best = state.best_search(by_search, dataset, arm)
        assert best is not None
        assert best.name == name
    assert state.best_search(False, "other") is None


def test_an_export_of_an_arm_is_that_of_its_replicates_on_one_data_set() -> None:
    state = state_of(replicated())
    for dataset in ("digits", "fashion"):
        for arm, best in (("a", None), ("b", None), ("overall", "b")):
            state.apply(WinnerExported(arm=arm, dataset=dataset, folder=f"best/{dataset}/{arm}", seed=1, best=best))
    state.apply(WinnerVerified(arm="a", dataset="fashion", replicate=1, trial=0, seed=2, metrics={}))
    assert [bool(state.exported(arm)) for arm in ("a", "b", "overall")] == [True, True, True]
    assert [bool(state.exported(arm, "fashion")) for arm in ("a", "b", "overall")] == [False, True, False]


def test_a_sweep_that_is_given_more_data_sets_keeps_its_searches(events: list[AnyEvent]) -> None:
    state = state_of(events)
    state.apply(SweepStarted(driver="two", datasets={"digits": "d", "fashion": "f"}))
    state.apply(TrialStarted(arm="a", dataset="digits", trial=2, config={}))
    state.apply(TrialStarted(arm="a", dataset="fashion", trial=0, config={}))
    assert list(state.searches) == ["a", "b", "a~fashion~0"]
    assert (state.searches["a"].dataset, list(state.searches["a"].trials)) == ("digits", [0, 1, 2])
    assert state.exported("a", "digits") is not None
    assert state.split_of("digits") == "s"
    assert state.split_of("fashion") is None
