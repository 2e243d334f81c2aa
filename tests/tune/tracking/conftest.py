"""The journal of a small sweep, as a driver would write it, and a reader of the runs that MLflow has of it."""

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from supersnn.config import TrainConfig
from supersnn.nested import flatten
from supersnn.records.events import (
    AnyEvent,
    DatasetSplit,
    EpochReported,
    SweepClosed,
    SweepStarted,
    TeacherTrained,
    TrialEnded,
    TrialStarted,
    WinnerChosen,
    WinnerVerified,
    parse,
)
from supersnn.records.journal import Journal
from tune.store import SweepFolder
from tune.tracking.client import import_mlflow
from tune.tracking.tracker import Tracker

TEACHERS = {"direct": None, "homogeneous": "resnet14", "heterogeneous": "vgg8"}
"""The teacher of each arm."""
CONFIG: dict[str, Any] = {
    "name": "digits",
    "seed": 0,
    "dataset": {"name": "digits"},
    "student": {"architecture": "resnet8"},
    "arms": {arm: {"teachers": [teacher]} if teacher else {} for arm, teacher in TEACHERS.items()},
    "search": {"trials": 2},
}


def flat_config(teacher: str | None, seed: int, epochs: int, lr: float) -> dict[str, Any]:
    """A trial's configuration under dotted keys."""
    data: dict[str, Any] = {
        "dataset": {"name": "digits"},
        "student": {"architecture": "resnet8"},
        "optimizer": {"lr": lr},
        "train": {"epochs": epochs},
        "seed": seed,
    }
    if teacher:
        data |= {"teacher": {"name": teacher}, "loss": {"relation": {"weight": 10.0}}}
    return flatten(TrainConfig.model_validate(data))


def value_of(arm: str, trial: int, epoch: int) -> float:
    """The validation accuracy that the made-up sweep reports."""
    return round(0.1 * list(TEACHERS).index(arm) + 0.02 * trial + 0.05 * epoch, 6)


def sweep_events(trials: int = 2, epochs: int = 3, seeds: int = 2) -> list[AnyEvent]:
    """All events of a sweep: in each arm the last trial is stopped after its first epoch, the others finish."""
    times = iter(range(1_700_000_000, 1_800_000_000))
    events: list[AnyEvent] = []

    def add(kind: Callable[..., AnyEvent], **fields: Any) -> None:
        event = parse(kind(time=float(next(times)), **fields).model_dump_json(by_alias=True))
        assert event is not None
        events.append(event)

    add(SweepStarted, driver="d1", code="0.1.0", versions={"torch": "2.14.1"}, resumed=False, schema=2)
    add(DatasetSplit, dataset="digits", split="5f1e", train=1222, validation=216, classes=10)
    teacher = {"name": "vgg8", "digest": "beef", "family": "vgg", "parameters": 9, "val_accuracy": 0.9}
    add(TeacherTrained, **teacher, epochs=5, seconds=7.0, split="5f1e")
    for trial in range(trials):
        for arm, name in TEACHERS.items():
            config = flat_config(name, 0, epochs, 0.1 / (trial + 1))
            add(TrialStarted, arm=arm, trial=trial, config=config, params={"optimizer.lr": 0.1})
            last = epochs if trial < trials - 1 or trials == 1 else 1
            for epoch in range(1, last + 1):
                metrics = {"val/accuracy": value_of(arm, trial, epoch), "train/loss": 1 / epoch, "spikes/rate": 0.2}
                add(EpochReported, arm=arm, trial=trial, epoch=epoch, metrics=metrics)
            end = "finished" if last == epochs else "stopped"
            add(TrialEnded, arm=arm, trial=trial, end=end, epochs=last, value=value_of(arm, trial, last), feasible=True)
    for arm, name in TEACHERS.items():
        value = value_of(arm, 0, epochs)
        add(WinnerChosen, arm=arm, trial=0, value=value)
        for seed in range(1000, 1000 + seeds):
            config = flat_config(name, seed, epochs, 0.1)
            metrics = {"val/accuracy": value, "test/accuracy": 0.4 + (seed - 1000) / 10, "spikes/rate": 0.25}
            add(WinnerVerified, arm=arm, trial=0, seed=seed, config=config, metrics=metrics, seconds=2.0)
    add(SweepClosed, driver="d1", end="done")
    return events


@dataclass(frozen=True)
class TrackedSweep:
    """A sweep whose journal the test writes, and its tracker."""

    folder: SweepFolder
    config: dict[str, Any] = field(default_factory=lambda: CONFIG)

    def append(self, events: Iterable[AnyEvent]) -> None:
        """Append events to the journal, with the times that they have."""
        journal = Journal(self.folder.journal)
        for event in events:
            journal.append(event)
        journal.close()

    def tracker(self, uri: str, artifacts: Path | None = None) -> Tracker:
        """Start to track into the MLflow at `uri`, and wait until it has answered."""
        root = artifacts or self.folder.path / "artifacts"
        tracker = Tracker(self.folder, uri, "digits", self.config, root).start()
        tracker.wait_connected()
        return tracker

    def track(self, uri: str, timeout: float = 60.0) -> int:
        """Send all events of the journal; return how many are still pending."""
        return self.tracker(uri).close(timeout)

    def position(self) -> Path:
        """The file of the tracker's position."""
        (file,) = self.folder.tracking.glob("*.json")
        return file

    def refused(self) -> list[str]:
        """The lines of refused.log."""
        path = self.folder.tracking / "refused.log"
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


@pytest.fixture
def config() -> dict[str, Any]:
    """The sweep, as plain nested values."""
    return CONFIG


@pytest.fixture
def make_events() -> Callable[..., list[AnyEvent]]:
    return sweep_events


@pytest.fixture
def events() -> list[AnyEvent]:
    return sweep_events()


@pytest.fixture
def make_sweep(tmp_path: Path) -> Callable[[str], TrackedSweep]:
    """Return the sweep of a store by the store's name."""
    return lambda store: TrackedSweep(SweepFolder(tmp_path / store / "sweeps" / "digits"))


@pytest.fixture
def sweep(tmp_path: Path) -> TrackedSweep:
    return TrackedSweep(SweepFolder(tmp_path / "sweeps" / "digits"))


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import_mlflow()
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "empty.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def make_uri(tmp_path: Path, empty_database: Path) -> Callable[[str], str]:
    """Return the address of an MLflow database by its name, with its tables created."""
    return lambda name: f"sqlite:///{shutil.copy(empty_database, tmp_path / f'{name}.db')}"


@pytest.fixture
def uri(make_uri: Callable[[str], str]) -> str:
    return make_uri("mlflow")


@dataclass
class TrackedRun:
    """A run as MLflow has it; `metrics` are all values ever logged, as (step, value, milliseconds)."""

    name: str
    status: str
    parent: str | None
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, list[tuple[int, float, int]]]
    datasets: list[tuple[str, str]]
    times: tuple[int, int | None]


@pytest.fixture
def read_runs() -> Callable[[str], dict[str, TrackedRun]]:
    """Read every run of an MLflow, by the part of its key behind the sweep's; a duplicate key is an error."""

    def read_runs(uri: str) -> dict[str, TrackedRun]:
        from mlflow import MlflowClient

        client = MlflowClient(uri)
        experiments = [e.experiment_id for e in client.search_experiments()]
        runs = list(client.search_runs(experiments, max_results=1000))
        keys = {run.info.run_id: run.data.tags["supersnn.key"].partition("/")[2] for run in runs}
        assert len(set(keys.values())) == len(runs)
        return {keys[run.info.run_id]: _read_run(client, run, keys) for run in runs}

    return read_runs


def _read_run(client: Any, run: Any, keys: dict[str, str]) -> TrackedRun:
    parent = run.data.tags.get("mlflow.parentRunId")
    history = {name: client.get_metric_history(run.info.run_id, name) for name in run.data.metrics}
    return TrackedRun(
        run.info.run_name,
        run.info.status,
        None if parent is None else keys[parent],
        {k.removeprefix("supersnn."): v for k, v in run.data.tags.items() if k.startswith("supersnn.")},
        dict(run.data.params),
        {name: sorted((m.step, m.value, m.timestamp) for m in points) for name, points in history.items()},
        [(i.dataset.name, i.dataset.digest) for i in run.inputs.dataset_inputs],
        (run.info.start_time, run.info.end_time),
    )
