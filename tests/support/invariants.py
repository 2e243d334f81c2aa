"""What holds of every finished sweep, asserted from studies, MLflow, journal, report and store together.

`python -m tests.support.invariants STORE SWEEP` asserts it of a sweep on disk. Epochs, ends and the best trials are
counted from the journal's plain lines, not by the code under test.
"""

import json
import os
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from mlflow import MlflowClient
from mlflow.entities import Run

from supersnn.config import load
from supersnn.config_model import parse
from supersnn.evaluation import evaluate
from supersnn.exported import load as load_export
from supersnn.plain_yaml import read_yaml
from supersnn.records.journal import read
from supersnn.records.state import SweepState
from supersnn.test_set import open_test
from tests.support.cli import run_json
from tests.support.records import events as events_of
from tune.description.sweep import SweepConfig
from tune.store import Store

Events = list[dict[str, Any]]


def assert_sweep(store: Path, name: str) -> None:
    """Assert every invariant of a finished sweep."""
    folder = Store(store).existing(name)
    sweep = parse(SweepConfig, read_yaml(folder.config), "stored")
    events = events_of(folder.journal)
    sweep = as_it_ended(sweep, events)
    runs = mlflow_runs(store, name)
    assert_studies(store, sweep, events)
    assert_journal(sweep, events)
    assert_mlflow(store, sweep, runs, events)
    assert_best(store, sweep, events, runs)
    assert_verified(store, sweep, events)


def as_it_ended(sweep: SweepConfig, events: Events) -> SweepConfig:
    """Return a sweep with the number of replicates that it has ended with, after a look at each number of them."""
    if isinstance(sweep.replicates, int):
        return sweep
    looks = [event for event in events if event["event"] == "look"]
    assert all(look["next"] - look["replicates"] in (0, 1) for look in looks)
    steps = [look["replicates"] for look in looks if look["next"] > look["replicates"]]
    assert steps == list(range(sweep.replicates.at_least, looks[-1]["replicates"]))
    assert looks[-1]["next"] == looks[-1]["replicates"] <= sweep.replicates.at_most
    return sweep.model_copy(update={"replicates": looks[-1]["replicates"]})


def count(sweep: SweepConfig) -> int:
    """Return the number of replicates of a sweep `as_it_ended`."""
    assert isinstance(sweep.replicates, int)
    return sweep.replicates


def trials_of(sweep: SweepConfig, search: str, events: Events) -> int:
    """Return how many trials a search is to have: failed ones that are run again do not count."""
    granted = [event for event in events if event["event"] == "request" and event["refused"] is None]
    return sweep.search.trials + sum(e["kind"] == "retry" and search in e["searches"] for e in granted)


def assert_studies(store: Path, sweep: SweepConfig, events: Events) -> None:
    """Each search has as many trials as the sweep asks for, all ended, no step left out: arms are equal in each cell.

    A trial's steps are its first seed's epochs and each further seed's last one (``wilcoxon``: its seeds).
    """
    epochs, by_seed = sweep.train.epochs, sweep.search.scheduler == "wilcoxon"
    for search in searches_of(sweep):
        trials = study_of(store, sweep.name, search)
        assert len(trials) == trials_of(sweep, search, events), search
        assert all(trial.state.is_finished() for trial in trials), search
        for trial in trials:
            steps = sorted(trial.intermediate_values)
            expected = range(1, max(steps, default=0) + 1)
            assert steps == [n for n in expected if by_seed or n <= epochs or n % epochs == 0], (search, trial.number)


def searches_of(sweep: SweepConfig) -> dict[str, tuple[str, str | None, int]]:
    """Return arm, data set's label and replicate of each search, by its name; made without the code under test."""
    labels: list[str | None] = list(sweep.datasets) if sweep.datasets else [None]
    found = {}
    for replicate in range(count(sweep)):
        for position, label in enumerate(labels):
            for arm in sweep.arms:
                name = f"{arm}~{label}~{replicate}" if position else f"{arm}~{replicate}" if replicate else arm
                found[name] = (arm, label, replicate)
    return found


def named(sweep: SweepConfig, event: dict[str, Any]) -> str:
    """Return the search of an event; a sweep's only data set has no label before it is one of several."""
    first = next(iter(sweep.datasets)) if sweep.datasets else None
    place = (event["arm"], event.get("dataset") or first, event.get("replicate", 0))
    return next(name for name, search in searches_of(sweep).items() if search == place)


def replicates_of(sweep: SweepConfig, search: str) -> list[str]:
    """Return the searches of the same arm on the same data set."""
    searches = searches_of(sweep)
    return [name for name, place in searches.items() if place[:2] == searches[search][:2]]


def assert_journal(sweep: SweepConfig, events: Events) -> None:
    """Every trial ends once; its epochs follow each other, none twice; the last driver is done."""
    ends = Counter((named(sweep, e), e["trial"]) for e in events if e["event"] == "end")
    expected = {search: trials_of(sweep, search, events) for search in searches_of(sweep)}
    assert set(ends) == {(search, n) for search, count in expected.items() for n in range(count)}
    assert set(ends.values()) == {1}
    reported = [((named(sweep, e), e["trial"]), e["epoch"]) for e in events if e["event"] == "epoch"]
    for key in ends:
        epochs = [epoch for trial, epoch in reported if trial == key]
        assert epochs == list(range(1, len(epochs) + 1)), (key, epochs)
    once = [(e["event"], e["digest"]) for e in events if e["event"] in ("teacher", "bank", "refit")]
    once += [("data", f"{e.get('label')} {e.get('replicate')}") for e in events if e["event"] == "data"]
    assert set(Counter(once).values()) <= {1}
    assert events[-1]["event"] == "close"
    assert events[-1]["end"] == "done"


def assert_mlflow(store: Path, sweep: SweepConfig, runs: list[Run], events: Events) -> None:
    """The run tree: one run per sweep, data set, arm, replicate and trial, each below its parent, none running.

    Levels that would have one member are left out; no step is logged twice.
    """
    client = mlflow_client(store)
    by_id = {run.info.run_id: run for run in runs}
    levels = Counter(run.data.tags["supersnn.level"] for run in runs)
    assert levels["sweep"] == 1
    datasets, searches = len(sweep.datasets or [None]), len(searches_of(sweep))
    assert levels["dataset"] == (datasets if datasets > 1 else 0)
    assert levels["arm"] == len(sweep.arms) * datasets
    assert levels["replicate"] == (searches if count(sweep) > 1 else 0)
    assert levels["trial"] == sum(trials_of(sweep, search, events) for search in searches_of(sweep))
    lowest = "replicate" if count(sweep) > 1 else "arm"
    above = {"dataset": "sweep", "arm": "dataset" if datasets > 1 else "sweep", "replicate": "arm"}
    above |= {"trial": lowest, "verification": lowest}
    for run in runs:
        tags = run.data.tags
        assert run.info.status != "RUNNING", tags
        if tags["supersnn.level"] in above:
            parent = by_id[tags["mlflow.parentRunId"]]
            assert parent.data.tags["supersnn.level"] == above[tags["supersnn.level"]]
            for key in ("supersnn.dataset", "supersnn.arm", "supersnn.replicate"):
                assert tags[key] == parent.data.tags.get(key, tags[key]) if key in tags else True, (key, tags)
        if tags["supersnn.level"] == "trial" and "val/accuracy" in run.data.metrics:
            steps = [point.step for point in client.get_metric_history(run.info.run_id, "val/accuracy")]
            assert sorted(steps) == list(range(1, len(steps) + 1)), tags


def assert_best(store: Path, sweep: SweepConfig, events: Events, runs: list[Run]) -> None:
    """Each arm's best trial: the same in study, state, MLflow, status and report, and the winner if nothing is ranked.

    It is the most accurate one (of equal ones the first) that was trained to its end within the constraints.
    """
    faults: list[str] = []
    state = SweepState(dict(sweep.search.constraints))
    for event, _ in read(Store(store).sweep(sweep.name).journal, faults=faults):
        state.apply(event)
    assert (faults, state.orphans) == ([], set())
    level = "replicate" if count(sweep) > 1 else "arm"
    tracked = {
        (
            run.data.tags["supersnn.arm"],
            run.data.tags["supersnn.dataset"],
            run.data.tags.get("supersnn.replicate", "0"),
        ): run
        for run in runs
        if run.data.tags["supersnn.level"] == level
    }
    (status,) = run_json("status", sweep.name, "--store", store)
    report = run_json("report", sweep.name, "--store", store)
    winners = {named(sweep, event): event["trial"] for event in events if event["event"] == "winner"}
    for search, (arm, label, replicate) in searches_of(sweep).items():
        trial, value = best_trial(sweep, search, events)
        record = state.searches[search]
        assert best_in_study(study_of(store, sweep.name, search)) == (trial, value), search
        assert (record.best, record.best_value) == (trial, value), search
        tracked_run = tracked[arm, label or sweep.dataset.name, str(replicate)]
        assert tracked_run.data.metrics.get("val/best") == value, search
        shown = (status if "arms" in status else status["datasets"][label])["arms"][arm]
        shown = shown["replicates"][replicate] if count(sweep) > 1 else shown
        assert (shown["best_trial"], shown["best_val"]) == (trial, value), search
        if len(searches_of(sweep)) == len(sweep.arms):
            assert report["arms"][arm]["best_val"] == value, arm
        if sweep.verify.top == 1:
            assert winners.get(search) == trial, search


def best_trial(sweep: SweepConfig, search: str, events: Events) -> tuple[int, float] | tuple[None, None]:
    """Return number and value of a search's best trial by the journal's lines."""
    own = [e for e in events if e["event"] in ("epoch", "end") and named(sweep, e) == search]
    last = {e["trial"]: e["metrics"] for e in own if e["event"] == "epoch"}
    finished = [e for e in own if e["event"] == "end" and e["end"] == "finished"]
    feasible = [e for e in finished if within(sweep.search.constraints, last[e["trial"]])]
    if not feasible:
        return None, None
    best = min(feasible, key=lambda e: (-e["value"], e["trial"]))
    return best["trial"], best["value"]


def within(constraints: Mapping[str, float], metrics: Mapping[str, float | None]) -> bool:
    """Return whether a trial's last metrics (with several seeds their means) are within all bounds."""
    values = {key: metrics.get(f"mean/{key}", metrics.get(key)) for key in constraints}
    return all(value is None or value <= constraints[key] for key, value in values.items())


def best_in_study(trials: list[optuna.trial.FrozenTrial]) -> tuple[int, float] | tuple[None, None]:
    """Return number and accuracy of a study's best feasible trial."""
    complete = [trial for trial in trials if trial.state == optuna.trial.TrialState.COMPLETE]
    feasible = [trial for trial in complete if all(excess <= 0 for excess in trial.constraints.values())]
    best = min(feasible, key=lambda trial: (-trial.values[0], trial.number), default=None)
    return (None, None) if best is None else (best.number, best.values[0])


def study_of(store: Path, sweep: str, search: str) -> list[optuna.trial.FrozenTrial]:
    """Return the trials of a search's study."""
    storage = optuna.storages.RDBStorage(Store(store).optuna_url)
    try:
        return optuna.load_study(study_name=f"{sweep}/{search}", storage=storage).trials
    finally:
        storage.remove_session()
        storage.engine.dispose()


def mlflow_client(store: Path) -> MlflowClient:
    return MlflowClient(os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{store / 'mlflow.db'}")


def mlflow_runs(store: Path, sweep: str) -> list[Run]:
    """Return all runs of a sweep's experiment."""
    client = mlflow_client(store)
    experiment = client.get_experiment_by_name(sweep)
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id], max_results=5000))


def assert_verified(store: Path, sweep: SweepConfig, events: Events) -> None:
    """Every winner has its seeds, each tested once; the exported weights give the accuracies that are reported."""
    folder = Store(store).existing(sweep.name)
    verified = json.loads(folder.verified.read_text(encoding="utf-8"))["arms"]
    openings = [json.loads(line) for line in folder.ledger.read_text(encoding="utf-8").splitlines()]
    purposes = Counter(opening["purpose"] for opening in openings)
    tested = {opening["purpose"]: opening["weights"] for opening in openings}
    in_journal = Counter((named(sweep, e), e["trial"], e["seed"]) for e in events if e["event"] == "verified")
    for search, entry in verified.items():
        _, _, replicate = searches_of(sweep)[search]
        first = sweep.verify.first_seed + 10_000_000 * replicate
        seeds = list(range(first, first + sweep.verify.seeds))
        assert [result["seed"] for result in entry["results"]] == seeds
        for seed in seeds:
            assert purposes[f"verify {search}/{entry['trial']}/{seed}"] == 1
            assert in_journal[search, entry["trial"], seed] == 1
    for search in verified:
        arm, label, replicate = searches_of(sweep)[search]
        if replicate:
            continue
        best = max(replicates_of(sweep, search), key=lambda name: mean_validation(verified.get(name)))
        entry = verified[best]
        export = folder.export(arm, label if len(sweep.datasets or [None]) > 1 else None)
        student = load_export(export)
        config = load(export / "config.yaml")
        assert (student.metrics["trial"], student.metrics["replicate"]) == (entry["trial"], searches_of(sweep)[best][2])
        assert config.seed == student.metrics["seed"]
        result = next(r for r in entry["results"] if r["seed"] == config.seed)
        assert student.metrics["val_accuracy"] == result["val"]
        weights = tested[f"verify {best}/{entry['trial']}/{config.seed}"]
        assert weights == student.metrics["sha256"]["student.safetensors"]
        test = open_test(config.dataset, store / "checks.jsonl", "invariants")
        evaluation = evaluate(student.module, test, student.preprocessing.mean, student.preprocessing.std)
        assert evaluation.accuracy == result["test"], search
        assert (export.parent / "overall" / "config.yaml").exists()
    assert folder.report.stat().st_size < 8 * 2**20


def mean_validation(entry: dict[str, Any] | None) -> float:
    """Return the mean validation accuracy of a winner's final runs; the least of all without a winner."""
    values = [result["val"] for result in entry["results"]] if entry else []
    return sum(values) / len(values) if values else float("-inf")


if __name__ == "__main__":
    assert_sweep(Path(sys.argv[1]), sys.argv[2])
    print("every invariant holds")
