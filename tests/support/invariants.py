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
from supersnn.config_model import parse, read_yaml
from supersnn.evaluation import evaluate
from supersnn.exported import load as load_export
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
    runs = mlflow_runs(store, name)
    assert_studies(store, sweep, events)
    assert_journal(sweep, events)
    assert_mlflow(store, sweep, runs, events)
    assert_best(store, sweep, events, runs)
    assert_verified(store, sweep, events)


def trials_of(sweep: SweepConfig, arm: str, events: Events) -> int:
    """Return how many trials an arm is to have: failed ones that are run again do not count."""
    granted = [event for event in events if event["event"] == "request" and event["refused"] is None]
    return sweep.search.trials + sum(e["kind"] == "retry" and arm in e["searches"] for e in granted)


def assert_studies(store: Path, sweep: SweepConfig, events: Events) -> None:
    """Each arm has as many trials as the sweep asks for, all ended, no step left out.

    A trial's steps are its first seed's epochs and each further seed's last one (``wilcoxon``: its seeds).
    """
    epochs, by_seed = sweep.train.epochs, sweep.search.scheduler == "wilcoxon"
    for arm in sweep.arms:
        trials = study_of(store, sweep.name, arm)
        assert len(trials) == trials_of(sweep, arm, events), arm
        assert all(trial.state.is_finished() for trial in trials), arm
        for trial in trials:
            steps = sorted(trial.intermediate_values)
            expected = range(1, max(steps, default=0) + 1)
            assert steps == [n for n in expected if by_seed or n <= epochs or n % epochs == 0], (arm, trial.number)


def assert_journal(sweep: SweepConfig, events: Events) -> None:
    """Every trial ends once; its epochs follow each other, none twice; the last driver is done."""
    ends = Counter((e["arm"], e["trial"]) for e in events if e["event"] == "end")
    assert set(ends) == {(arm, n) for arm in sweep.arms for n in range(trials_of(sweep, arm, events))}
    assert set(ends.values()) == {1}
    for arm, trial in ends:
        epochs = [e["epoch"] for e in events if e["event"] == "epoch" and (e["arm"], e["trial"]) == (arm, trial)]
        assert epochs == list(range(1, len(epochs) + 1)), (arm, trial, epochs)
    assert events[-1]["event"] == "close"
    assert events[-1]["end"] == "done"


def assert_mlflow(store: Path, sweep: SweepConfig, runs: list[Run], events: Events) -> None:
    """The run tree: one run per sweep, arm and trial, each below its parent, none running, no step twice."""
    client = mlflow_client(store)
    by_id = {run.info.run_id: run for run in runs}
    levels = Counter(run.data.tags["supersnn.level"] for run in runs)
    assert levels["sweep"] == 1
    assert levels["arm"] == len(sweep.arms)
    assert levels["trial"] == sum(trials_of(sweep, arm, events) for arm in sweep.arms)
    above = {"arm": "sweep", "trial": "arm", "verification": "arm"}
    for run in runs:
        tags = run.data.tags
        assert run.info.status != "RUNNING", tags
        if tags["supersnn.level"] in above:
            parent = by_id[tags["mlflow.parentRunId"]]
            assert parent.data.tags["supersnn.level"] == above[tags["supersnn.level"]]
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
    tracked = {run.data.tags["supersnn.arm"]: run for run in runs if run.data.tags["supersnn.level"] == "arm"}
    (status,) = run_json("status", sweep.name, "--store", store)
    report = run_json("report", sweep.name, "--store", store)
    winners = {event["arm"]: event["trial"] for event in events if event["event"] == "winner"}
    for arm in sweep.arms:
        trial, value = best_trial(sweep, arm, events)
        record = state.searches[arm]
        assert best_in_study(study_of(store, sweep.name, arm)) == (trial, value), arm
        assert (record.best, record.best_value) == (trial, value), arm
        assert tracked[arm].data.metrics.get("val/best") == value, arm
        assert (status["arms"][arm]["best_trial"], status["arms"][arm]["best_val"]) == (trial, value), arm
        assert report["arms"][arm]["best_val"] == value, arm
        if sweep.verify.top == 1:
            assert winners.get(arm) == trial, arm


def best_trial(sweep: SweepConfig, arm: str, events: Events) -> tuple[int, float] | tuple[None, None]:
    """Return number and value of an arm's best trial by the journal's lines."""
    last = {e["trial"]: e["metrics"] for e in events if e["event"] == "epoch" and e["arm"] == arm}
    finished = [e for e in events if e["event"] == "end" and e["arm"] == arm and e["end"] == "finished"]
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


def study_of(store: Path, sweep: str, arm: str) -> list[optuna.trial.FrozenTrial]:
    """Return the trials of an arm's study."""
    return optuna.load_study(study_name=f"{sweep}/{arm}", storage=Store(store).optuna_url).trials


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
    seeds = list(range(sweep.verify.first_seed, sweep.verify.first_seed + sweep.verify.seeds))
    openings = [json.loads(line) for line in folder.ledger.read_text(encoding="utf-8").splitlines()]
    purposes = Counter(opening["purpose"] for opening in openings)
    tested = {opening["purpose"]: opening["weights"] for opening in openings}
    in_journal = Counter((e["arm"], e["trial"], e["seed"]) for e in events if e["event"] == "verified")
    for arm, entry in verified.items():
        assert [result["seed"] for result in entry["results"]] == seeds
        for seed in seeds:
            assert purposes[f"verify {arm}/{entry['trial']}/{seed}"] == 1
            assert in_journal[arm, entry["trial"], seed] == 1
        export = folder.best / arm
        student = load_export(export)
        config = load(export / "config.yaml")
        assert student.metrics["trial"] == entry["trial"]
        assert config.seed == student.metrics["seed"]
        result = next(r for r in entry["results"] if r["seed"] == config.seed)
        assert student.metrics["val_accuracy"] == result["val"]
        weights = tested[f"verify {arm}/{entry['trial']}/{config.seed}"]
        assert weights == student.metrics["sha256"]["student.safetensors"]
        test = open_test(config.dataset, store / "checks.jsonl", "invariants")
        evaluation = evaluate(student.module, test, student.preprocessing.mean, student.preprocessing.std)
        assert evaluation.accuracy == result["test"], arm
    assert (folder.best / "overall" / "config.yaml").exists()
    assert folder.report.stat().st_size < 8 * 2**20


if __name__ == "__main__":
    assert_sweep(Path(sys.argv[1]), sys.argv[2])
    print("every invariant holds")
