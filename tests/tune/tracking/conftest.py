"""A small sweep's journal, as the conductor would write it, and what MLflow holds after it was told."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from supersnn.config import TrainConfig
from supersnn.config_model import flatten
from tune.tracking.client import quiet

ARMS: dict[str, dict[str, Any]] = {
    "direct": {},
    "homogeneous": {"teachers": ["resnet14"]},
    "heterogeneous": {"teachers": ["vgg8"]},
}
CONFIG: dict[str, Any] = {
    "name": "digits",
    "seed": 0,
    "dataset": {"name": "digits"},
    "student": {"architecture": "resnet8"},
    "arms": ARMS,
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
    return round(0.1 * list(ARMS).index(arm) + 0.02 * trial + 0.05 * epoch, 6)


def sweep_events(trials: int = 2, epochs: int = 3, seeds: int = 2) -> list[dict[str, Any]]:
    """A whole sweep: in each arm the last trial is stopped after its first epoch, the others finish."""
    clock = iter(range(1_700_000_000, 1_800_000_000))
    events: list[dict[str, Any]] = []

    def add(event: str, **fields: Any) -> None:
        events.append({"event": event, "time": float(next(clock)), **fields})

    add("sweep", driver="d1", code="0.1.0", versions={"torch": "2.14.1"}, resumed=False)
    add("data", dataset="digits", split="5f1e", train=1222, validation=216, classes=10)
    add(
        "teacher",
        name="vgg8",
        digest="beef",
        family="vgg",
        parameters=9,
        val_accuracy=0.9,
        epochs=5,
        seconds=7.0,
        split="5f1e",
    )
    for trial in range(trials):
        for arm, described in ARMS.items():
            teacher = described.get("teachers", [None])[0]
            config = flat_config(teacher, 0, epochs, 0.1 / (trial + 1))
            add("start", arm=arm, trial=trial, config=config, params={"optimizer.lr": 0.1}, resumed_at=0)
            for epoch in range(1, epochs + 1 if trial < trials - 1 or trials == 1 else 2):
                metrics = {"val/accuracy": value_of(arm, trial, epoch), "train/loss": 1 / epoch, "spikes/rate": 0.2}
                add("epoch", arm=arm, trial=trial, epoch=epoch, metrics=metrics)
            whole = epoch == epochs
            add("end", arm=arm, trial=trial, end="finished" if whole else "stopped", epochs=epoch, value=0.0)
    for arm, described in ARMS.items():
        add("winner", arm=arm, trial=0, value=value_of(arm, 0, epochs))
        for seed in range(1000, 1000 + seeds):
            config = flat_config(described.get("teachers", [None])[0], seed, epochs, 0.1)
            fresh = value_of(arm, 0, epochs)
            metrics = {"val/accuracy": fresh, "test/accuracy": 0.4 + (seed - 1000) / 10, "spikes/rate": 0.25}
            add("verified", arm=arm, trial=0, seed=seed, config=config, metrics=metrics, seconds=2.0)
    add("close", driver="d1", end="done")
    return events


@pytest.fixture
def config() -> dict[str, Any]:
    """The sweep, as plain nested values."""
    return CONFIG


@pytest.fixture
def make_events() -> Callable[..., list[dict[str, Any]]]:
    return sweep_events


@pytest.fixture
def events() -> list[dict[str, Any]]:
    return sweep_events()


@pytest.fixture
def write() -> Callable[[Path, list[dict[str, Any]]], None]:
    """Append events to a journal, with the times that they have."""

    def write(path: Path, events: list[dict[str, Any]]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(event) + "\n" for event in events)

    return write


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    quiet()
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "empty.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def uri(tmp_path: Path, empty_database: Path) -> str:
    """A database of MLflow's own, with its tables already made."""
    return f"sqlite:///{shutil.copy(empty_database, tmp_path / 'mlflow.db')}"


@dataclass
class Told:
    """A run as MLflow has it; `metrics` are all values that were ever said, as (step, value, milliseconds)."""

    name: str
    status: str
    parent: str | None
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, list[tuple[int, float, int]]]
    datasets: list[tuple[str, str]]
    times: tuple[int, int | None]


@pytest.fixture
def told() -> Callable[[str], dict[str, Told]]:
    """Read every run of an MLflow, by what follows the sweep in its key; a key that stands twice is an error."""

    def told(uri: str) -> dict[str, Told]:
        from mlflow import MlflowClient

        client = MlflowClient(uri)
        experiments = [e.experiment_id for e in client.search_experiments()]
        runs = list(client.search_runs(experiments, max_results=1000))
        keys = {run.info.run_id: run.data.tags["supersnn.key"].partition("/")[2] for run in runs}
        assert len(set(keys.values())) == len(runs)
        return {keys[run.info.run_id]: _told(client, run, keys) for run in runs}

    return told


def _told(client: Any, run: Any, keys: dict[str, str]) -> Told:
    parent = run.data.tags.get("mlflow.parentRunId")
    history = {name: client.get_metric_history(run.info.run_id, name) for name in run.data.metrics}
    return Told(
        run.info.run_name,
        run.info.status,
        None if parent is None else keys[parent],
        {k.removeprefix("supersnn."): v for k, v in run.data.tags.items() if k.startswith("supersnn.")},
        dict(run.data.params),
        {name: sorted((m.step, m.value, m.timestamp) for m in points) for name, points in history.items()},
        [(i.dataset.name, i.dataset.digest) for i in run.inputs.dataset_inputs],
        (run.info.start_time, run.info.end_time),
    )
