"""Nodes and costs as a sweep's events give them: slow nodes, failures, and what was taken at the time."""

from collections.abc import Iterator
from typing import Any

import pytest

from supersnn.records.events import (
    AnyEvent,
    EpochReported,
    TeacherCached,
    TeacherRefitted,
    TeacherTrained,
    TrialEnded,
    TrialRanked,
    TrialStarted,
    WinnerVerified,
    parse,
)
from supersnn.records.nodes import NodeRecord, slow_nodes, slow_text, slowness
from supersnn.records.state import SweepState

CONFIG = {"student.architecture": "resnet8", "dataset.name": "digits", "train.epochs": 4}


def trial(
    number: int, node: str, seconds: float, gpus: float | None, gpu: str = "H100", **config: Any
) -> Iterator[AnyEvent]:
    """Yield the events of a trial on a node: its first epoch is a slow one."""
    yield TrialStarted(arm="direct", trial=number, config={**CONFIG, **config}, gpus=gpus)
    for epoch in range(1, 5):
        metrics: dict[str, float | None] = {"val/accuracy": 0.5, "time/epoch_s": 100.0 if epoch == 1 else seconds}
        place = {"node": node, "process": "1", "gpu": gpu} if epoch == 1 else None
        yield EpochReported(arm="direct", trial=number, epoch=epoch, metrics=metrics, place=place)


def state_of(*trials: Iterator[AnyEvent]) -> SweepState:
    state = SweepState()
    for events in trials:
        for event in events:
            state.apply(event)
    return state


def test_a_node_is_slow_by_the_median_of_the_others_for_the_same_trainings() -> None:
    state = state_of(
        trial(0, "a", 10.0, 1.0),
        trial(1, "b", 11.0, 1.0),
        trial(2, "c", 16.0, 1.0),
        trial(3, "c", 30.0, 1.0, **{"student.architecture": "resnet19"}),  # nobody to compare with
        trial(4, "d", 40.0, 1.0, gpu="L4"),  # another kind of GPU
    )
    assert slow_nodes(state.nodes.values()) == {"c": pytest.approx(16 / 10.5)}
    assert slow_text(state.nodes.values()) == [
        "node c is slow: its epochs take 1.5 times as long as the median of the other nodes'"
    ]
    assert slowness(state.nodes["d"], state.nodes.values()) is None
    assert slowness(state.nodes["a"], state.nodes.values()) == pytest.approx(10 / 13.5)
    assert state.nodes["c"].trials == 2
    assert state.nodes["d"].gpus == ["L4"]


def test_few_epochs_are_not_compared() -> None:
    few, many = NodeRecord("few"), NodeRecord("many")
    for _ in range(2):
        few.add("x", 100.0)
    for _ in range(5):
        many.add("x", 1.0)
    assert slow_nodes([few, many]) == {}
    few.add("x", 100.0)
    assert slow_nodes([few, many]) == {"few": 100.0}


def test_failures_are_counted_where_they_happen() -> None:
    state = state_of(trial(0, "a", 1.0, 0.0), iter([TrialEnded(arm="direct", trial=0, end="failed:nan", epochs=4)]))
    assert (state.nodes["a"].trials, state.nodes["a"].failed) == (1, 1)


def test_costs_have_everything_that_was_taken_and_nothing_twice() -> None:
    """An epoch of 36 s on half a GPU, then, later, on two; what was found in the store took nothing."""
    facts: dict[str, Any] = {"family": "resnet", "seconds": 1e6}
    state = state_of(
        trial(0, "a", 0.0, 0.5),
        trial(1, "a", 0.0, 2.0),
        trial(2, "a", 0.0, None),
        iter([
            TeacherTrained(name="vgg8", digest="1", **facts, took=360.0, gpus=1.0),
            TeacherTrained(name="vgg8", digest="2", **facts),
            TeacherCached(teacher="vgg8", digest="3", seconds=1e6, took=36.0, gpus=1.0),
            TeacherCached(teacher="vgg8", digest="3", seconds=1e6, took=36.0, gpus=1.0),
            TeacherRefitted(name="vgg8", digest="4", **facts, took=72.0, gpus=0.5),
            TrialRanked(arm="direct", trial=0, seed=1, seconds=36.0, gpus=1.0),
            WinnerVerified(arm="direct", trial=0, seed=2, metrics={}, seconds=108.0, gpus=1.0),
            WinnerVerified(arm="direct", trial=0, seed=3, metrics={}, seconds=108.0),
        ]),
    )  # fmt: skip
    assert state.costs.gpu_seconds == {"search": 250.0, "teachers": 396.0, "refits": 36.0, "final runs": 144.0}
    assert state.costs.seconds == {"search": 300.0, "teachers": 396.0, "refits": 72.0, "final runs": 252.0}
    assert state.costs.unknown == 100.0
    assert state.costs.row()["gpu_hours"] == pytest.approx(826 / 3600)
    assert state.costs.text() == "0.23 GPU-hours (search 0.069, teachers 0.11, refits 0.01, final runs 0.04)"


def test_fields_that_are_not_known_are_not_written_and_may_be_missing() -> None:
    event = TrialRanked(arm="direct", trial=0, seed=1, seconds=2.0)
    line = event.model_dump_json(exclude=event.left_out())
    assert "gpus" not in line
    assert parse(line) == event
    taken = event.model_copy(update={"gpus": 0.5})
    assert parse(taken.model_dump_json(exclude=taken.left_out())) == taken
