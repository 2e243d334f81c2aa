"""Events of a small sweep, written by hand."""

from collections.abc import Iterator

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
    TrialRanked,
    TrialStarted,
    WinnerChosen,
    WinnerExported,
    WinnerVerified,
)

CONFIG = {
    "student.architecture": "resnet8",
    "teacher.name": "vgg8",
    "dataset.name": "digits",
    "train.epochs": 2,
    "seed": 0,
}


def trial(arm: str, number: int, at: float, accuracies: tuple[float, ...], rate: float = 0.1) -> Iterator[AnyEvent]:
    """Yield the events of a trial, an epoch a second, without its end."""
    yield TrialStarted(time=at, arm=arm, trial=number, config=CONFIG, params={"optimizer.lr": 0.1 * (number + 1)})
    for epoch, accuracy in enumerate(accuracies, start=1):
        metrics = {"val/accuracy": accuracy, "spikes/rate": rate, "time/epoch_s": 0.5}
        yield EpochReported(time=at + epoch, arm=arm, trial=number, epoch=epoch, metrics=metrics)


@pytest.fixture
def events() -> list[AnyEvent]:
    """Return a complete sweep: in arm `a` the best value (trial 1) is not feasible."""
    teacher = {"name": "vgg8", "family": "vgg", "split": "s", "parameters": 9, "epochs": 3}
    verified = WinnerVerified(
        time=130.0, arm="a", trial=0, seed=1000, metrics={"val/accuracy": 0.65, "test/accuracy": 0.6}, seconds=2.0
    )
    return [
        SweepStarted(time=100.0, driver="one", code="1", versions={"torch": "2"}, schema_version=2),
        DatasetSplit(time=101.0, dataset="digits", split="s", train=10, validation=5, classes=2),
        TeacherTrained(time=102.0, digest="t", val_accuracy=0.9, seconds=4.0, **teacher),
        TeacherCached(time=103.0, teacher="vgg8", digest="c", views=2, seconds=1.5, bytes=10),
        *trial("a", 0, 104.0, (0.5, 0.7)),
        TrialEnded(time=106.0, arm="a", trial=0, end="finished", epochs=2, value=0.7, feasible=True),
        *trial("a", 1, 106.0, (0.8, 0.9), rate=0.5),
        TrialEnded(time=108.0, arm="a", trial=1, end="finished", epochs=2, value=0.9, feasible=False),
        *trial("b", 0, 108.0, (0.4,)),
        TrialEnded(time=109.0, arm="b", trial=0, end="stopped", epochs=1, value=0.4, feasible=True),
        *trial("b", 1, 110.0, (0.3,)),
        TrialEnded(time=111.0, arm="b", trial=1, end="failed:nan", epochs=1, value=None),
        TrialRanked(time=120.0, arm="a", trial=0, seed=5, value=0.66, seconds=1.0),
        WinnerChosen(time=121.0, arm="a", trial=0, value=0.7),
        verified,
        WinnerExported(time=131.0, arm="a", folder="best/a", seed=1000),
        SweepClosed(time=132.0, driver="one", end="done"),
    ]
