"""What must hold of a sweep that has ended, asserted from the studies, MLflow, the journal and the store together.

`python tests/end_to_end/invariants.py STORE SWEEP` asserts it of a sweep on disk.
"""

import json
import os
import sys
from collections import Counter
from pathlib import Path

import optuna
from mlflow import MlflowClient

from supersnn.config import load
from supersnn.config_model import parse, read_yaml
from supersnn.evaluation import evaluate
from supersnn.exported import load as load_export
from supersnn.test_set import open_test
from tune.description.sweep import SweepConfig
from tune.journal import read
from tune.store import Store


def assert_sweep(store: Path, name: str) -> None:
    """Assert every invariant of a finished sweep."""
    folder = Store(store).existing(name)
    sweep = parse(SweepConfig, read_yaml(folder.config), "stored")
    events = [event for event, _ in read(folder.journal)]
    assert_studies(store, sweep)
    assert_journal(sweep, events)
    assert_mlflow(store, sweep)
    assert_verified(store, sweep, events)


def assert_studies(store: Path, sweep: SweepConfig) -> None:
    """As many trials an arm as asked for, all ended, no epoch told twice."""
    url = os.environ.get("SUPERSNN_OPTUNA_STORAGE") or f"sqlite:///{store / 'optuna.db'}"
    for arm in sweep.arms:
        trials = optuna.load_study(study_name=f"{sweep.name}/{arm}", storage=url).trials
        assert len(trials) == sweep.search.trials, arm
        assert all(trial.state.is_finished() for trial in trials), arm
        for trial in trials:
            epochs = sorted(trial.intermediate_values)
            assert epochs == list(range(1, len(epochs) + 1)), (arm, trial.number, epochs)


def assert_journal(sweep: SweepConfig, events: list[dict[str, object]]) -> None:
    """Every trial ends once, with its epochs in a row."""
    ends = Counter((e["arm"], e["trial"]) for e in events if e["event"] == "end")
    assert set(ends) == {(arm, n) for arm in sweep.arms for n in range(sweep.search.trials)}
    assert set(ends.values()) == {1}
    for arm, trial in ends:
        epochs = [e["epoch"] for e in events if e["event"] == "epoch" and (e["arm"], e["trial"]) == (arm, trial)]
        assert epochs == list(range(1, len(epochs) + 1)), (arm, trial, epochs)
    assert events[-1]["event"] == "close"
    assert events[-1]["end"] == "done"


def assert_mlflow(store: Path, sweep: SweepConfig) -> None:
    """The run tree: as many runs a level as there are, each with its parent, none running, no step twice."""
    client = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{store / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(sweep.name)
    assert experiment is not None
    runs = list(client.search_runs([experiment.experiment_id], max_results=5000))
    by_id = {run.info.run_id: run for run in runs}
    levels = Counter(run.data.tags["supersnn.level"] for run in runs)
    assert levels["sweep"] == 1
    assert levels["arm"] == len(sweep.arms)
    assert levels["trial"] == len(sweep.arms) * sweep.search.trials
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


def assert_verified(store: Path, sweep: SweepConfig, events: list[dict[str, object]]) -> None:
    """Every winner has its seeds, each tested once; the exported weights give the accuracies that are reported."""
    folder = Store(store).existing(sweep.name)
    verified = json.loads(folder.verified.read_text(encoding="utf-8"))["arms"]
    seeds = list(range(sweep.verify.first_seed, sweep.verify.first_seed + sweep.verify.seeds))
    openings = [json.loads(line) for line in folder.ledger.read_text(encoding="utf-8").splitlines()]
    purposes = Counter(opening["purpose"] for opening in openings)
    tested = {opening["purpose"]: opening["weights"] for opening in openings}
    told = Counter((e["arm"], e["trial"], e["seed"]) for e in events if e["event"] == "verified")
    for arm, entry in verified.items():
        assert [result["seed"] for result in entry["results"]] == seeds
        for seed in seeds:
            assert purposes[f"verify {arm}/{entry['trial']}/{seed}"] == 1
            assert told[arm, entry["trial"], seed] == 1
        export = folder.best / arm
        student = load_export(export)
        config = load(export / "config.yaml")
        assert config.seed == student.metrics["seed"]
        result = next(r for r in entry["results"] if r["seed"] == config.seed)
        assert student.metrics["val_accuracy"] == result["val"]
        weights = tested[f"verify {arm}/{entry['trial']}/{config.seed}"]
        assert weights == student.metrics["sha256"]["student.safetensors"]
        test = open_test(config.dataset, store / "checks.jsonl", "invariants")
        again = evaluate(student.module, test, student.preprocessing.mean, student.preprocessing.std)
        assert again.accuracy == result["test"], arm
    assert (folder.best / "overall" / "config.yaml").exists()
    assert folder.report.stat().st_size < 8 * 2**20


if __name__ == "__main__":
    assert_sweep(Path(sys.argv[1]), sys.argv[2])
    print("every invariant holds")
