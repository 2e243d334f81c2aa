"""Real trainings under early stopping: several seeds a trial, several objectives, constraints; interrupted too."""

import csv
import json
import re
import statistics
from pathlib import Path
from typing import Any, NoReturn

import optuna
import pytest
import yaml

from supersnn.config_model import parse, with_values
from supersnn.data import training_data
from supersnn.records.events import AnyEvent, EpochReported
from supersnn.training import train
from tests.support import invariants, records
from tests.support.cli import run as command
from tests.support.cli import run_json
from tests.support.records import timeless
from tune.description.arms import resolve
from tune.description.sweep import SweepConfig
from tune.execution.local import LocalExecutor
from tune.store import Store
from tune.sweep_driver import open_sweep
from tune.sweep_record import Listener
from tune.sweep_runner import SweepRunner

PLAIN: dict[str, Any] = {
    "name": "seeds",
    "dataset": {"name": "digits", "images": 400},
    "student": {"architecture": "resnet8"},
    "neuron": {"threshold": 0.5},
    "train": {"epochs": 2, "batch_size": 16},
    "arms": {"direct": {}},
    "space": {"optimizer.lr": {"log": [0.00001, 0.3]}},
    "verify": {"seeds": 1},
}


RATES = (0.1, 0.05, 0.00001, 0.00002, 0.08, 0.00003)
"""The trials' learning rates: with the small ones nothing is learnt."""


def sweep_with(**search: Any) -> SweepConfig:
    default = {"trials": 6, "startup": 1, "reduction": 2, "enqueue": [{"optimizer.lr": rate} for rate in RATES]}
    return parse(SweepConfig, {**PLAIN, "search": {**default, **search}}, "test")


def run(sweep: SweepConfig, store: Store, *listeners: Listener) -> None:
    """Do what is left of a sweep in this process, without MLflow; a listener may raise, as if the driver died."""
    with open_sweep(sweep, store) as driver:
        if driver.work_left():
            driver.record.listeners.extend(listeners)
            with driver.recording():
                runner = SweepRunner(driver, LocalExecutor())
                runner.train()
                runner.export()


def events(store: Store, kind: str) -> list[dict[str, Any]]:
    return records.events(store.sweep("seeds").journal, kind)


def epochs(store: Store, trial: int) -> dict[int, dict[str, float]]:
    """Return a trial's metrics by epoch, without times."""
    reported = [event for event in events(store, "epoch") if event["trial"] == trial]
    assert [event["epoch"] for event in reported] == list(range(1, len(reported) + 1))
    return {event["epoch"]: timeless(event["metrics"]) for event in reported}


def verified(store: Store) -> dict[str, Any]:
    """Return each arm's winner and verified results."""
    arms: dict[str, Any] = json.loads(store.sweep("seeds").verified.read_text(encoding="utf-8"))["arms"]
    return arms


def study(store: Store) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name="seeds/direct", storage=store.optuna_url).trials


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.mark.parametrize("scheduler", ["asha", "hyperband", "wilcoxon", "median"])
def test_a_trial_of_two_seeds_is_judged_by_their_mean(scheduler: str, store: Store) -> None:
    sweep = sweep_with(scheduler=scheduler, seeds_per_trial=2, min_epochs=1)
    run(sweep, store)
    ends = {event["trial"]: event for event in events(store, "end")}
    assert ends.keys() == set(range(6))
    trials = {trial.number: trial for trial in study(store)}
    for number, end in ends.items():
        metrics = epochs(store, number)
        assert len(metrics) == end["epochs"]
        if end["end"] == "stopped":
            assert trials[number].state.name == "PRUNED"
            continue
        assert end["end"] == "finished"
        own = [metrics[2]["val/accuracy"], metrics[4]["val/accuracy"]]
        mean = pytest.approx(statistics.fmean(own))
        assert metrics[2]["mean/val/accuracy"] == own[0]
        assert end["value"] == trials[number].value == metrics[4]["mean/val/accuracy"] == mean
        assert not [key for key in metrics[1] | metrics[3] if key.startswith("mean/")]
    best = max((end for end in ends.values() if end["end"] == "finished"), key=lambda end: float(end["value"]))
    winner = verified(store)["direct"]
    assert (winner["trial"], winner["search_value"]) == (best["trial"], best["value"])
    stopped = {number for number, end in ends.items() if end["end"] == "stopped"}
    assert 0 not in stopped
    assert {"asha": {2, 3} <= stopped, "median": {2, 3} <= stopped, "hyperband": bool(stopped)}.get(
        scheduler, not stopped
    )


def test_wilcoxon_spares_a_bad_trial_its_last_seeds(store: Store) -> None:
    enqueue = [{"optimizer.lr": 0.1}, {"optimizer.lr": 0.00001}]
    run(sweep_with(trials=2, scheduler="wilcoxon", seeds_per_trial=5, enqueue=enqueue), store)
    good, bad = events(store, "end")
    assert (good["end"], good["epochs"]) == ("finished", 10)
    assert (bad["end"], bad["epochs"]) == ("stopped", 8)


def test_each_of_the_seeds_is_a_training_of_its_own(store: Store) -> None:
    sweep = sweep_with(trials=1, scheduler="none", seeds_per_trial=2)
    run(sweep, store)
    (start,) = events(store, "start")
    config = resolve(sweep)["direct"].config(start["params"])
    reported = epochs(store, 0)
    data = training_data(config.dataset)
    finals: list[dict[str, float]] = []
    for seed in (0, 1):
        *_, last = train(with_values(config, {"seed": seed}), data)
        finals.append(timeless(last.metrics))
        means = {f"mean/{key}": statistics.fmean(final[key] for final in finals) for key in finals[0]}
        metrics = reported[2 * seed + 2]
        assert {key: metrics[key] for key in finals[-1]} == finals[-1]
        assert metrics == pytest.approx(finals[-1] | means)


def test_a_trial_of_two_seeds_is_exported_as_its_first(store: Store, tmp_path: Path) -> None:
    run(sweep_with(trials=2, scheduler="none", seeds_per_trial=2), store)
    other = 1 - verified(store)["direct"]["trial"]
    command("export", "seeds", "--store", store.path, "--trial", f"direct/{other}", "--to", tmp_path / "e")
    metrics = json.loads((tmp_path / "e" / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["reproduced"] is True
    assert metrics["seed"] == 0
    assert metrics["val_accuracy"] == epochs(store, other)[2]["val/accuracy"]
    assert metrics["search_value"] == epochs(store, other)[4]["mean/val/accuracy"]


@pytest.mark.parametrize(("scheduler", "died_at"), [("asha", 2), ("asha", 3), ("asha", 4), ("wilcoxon", 3)])
def test_a_driver_that_dies_within_the_second_seed_resumes_there(scheduler: str, died_at: int, tmp_path: Path) -> None:
    sweep = sweep_with(trials=1, scheduler=scheduler, seeds_per_trial=2)
    uninterrupted, broken = Store(tmp_path / "uninterrupted"), Store(tmp_path / "broken")
    run(sweep, uninterrupted)

    def dying(event: AnyEvent) -> None:
        if isinstance(event, EpochReported) and event.epoch == died_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(sweep, broken, dying)
    assert len(events(broken, "epoch")) == died_at
    run(sweep, broken)
    assert epochs(broken, 0) == epochs(uninterrupted, 0)
    assert [e["value"] for e in events(broken, "end")] == [e["value"] for e in events(uninterrupted, "end")]
    assert study(broken)[0].intermediate_values == study(uninterrupted)[0].intermediate_values


def swept(file: Path, store: Path, **changes: Any) -> dict[str, Any]:
    """Run a sweep from its file to its report, without a terminal; return what it prints."""
    file.write_text(yaml.safe_dump({**PLAIN, **changes}), encoding="utf-8")
    result = command("sweep", file, "--local", "--store", store, "--json")
    report: dict[str, Any] = json.loads(result.stdout)
    assert re.search(r"#5: \w+ after \d epochs.* trials/h · .* epochs/s · about \d+:\d\d left", result.stderr)
    (status,) = run_json("status", "seeds", "--store", store)
    assert (status["ended"], status["left_s"]) == ("done", 0.0)
    assert status["spent_s"] > 0
    invariants.assert_sweep(store, "seeds")
    assert run_json("sweep", file, "--local", "--store", store) == report
    return report


@pytest.mark.slow
def test_hyperband_from_the_file_to_the_report(tmp_path: Path) -> None:
    search = {"trials": 6, "scheduler": "hyperband", "reduction": 2, "min_epochs": 1}
    enqueue = [{"optimizer.lr": rate} for rate in RATES]
    report = swept(
        tmp_path / "sweep.yaml",
        tmp_path / "store",
        arms={"logit": {"teachers": ["vgg8"]}},
        dataset={"name": "digits", "images": 400, "augment": {"views": 2}},
        teacher={"epochs": 1},
        train={"epochs": 4, "batch_size": 16},
        search={**search, "enqueue": enqueue},
    )
    arm = report["arms"]["logit"]
    assert arm["finished"] + arm["stopped"] == 6
    assert arm["stopped"] > 0
    assert len(arm["verified"]) == 1
    ends = events(Store(tmp_path / "store"), "end")
    assert all((end["end"] == "finished") == (end["epochs"] == 4) for end in ends)


def test_two_objectives_and_a_constraint_from_the_file_to_the_front(tmp_path: Path) -> None:
    """Dense and untrained trials are stopped; the most accurate one fires too often; a sparser one wins."""
    tried = [(0.1, 0.5), (0.1, 1.0), (0.00001, 0.3), (0.00001, 0.35), (0.05, 1.5), (0.00001, 0.32)]
    search = {"trials": 6, "scheduler": "asha", "reduction": 2, "min_epochs": 1}
    arm = swept(
        tmp_path / "sweep.yaml",
        tmp_path / "store",
        space={**PLAIN["space"], "neuron.threshold": {"uniform": [0.3, 2.0]}},
        search={
            **search,
            "objectives": ["accuracy", "synaptic_ops"],
            "constraints": {"spikes/rate": 0.19},
            "enqueue": [{"optimizer.lr": rate, "neuron.threshold": threshold} for rate, threshold in tried],
        },
    )["arms"]["direct"]
    assert arm["stopped"] > 0
    store = Store(tmp_path / "store")
    rates = {number: list(epochs(store, number).values())[-1]["spikes/rate"] for number in range(6)}
    values = {event["trial"]: event["value"] for event in events(store, "end") if event["end"] == "finished"}
    assert rates[arm["trial"]] <= 0.19 < rates[max(values, key=values.__getitem__)]
    command("export", "seeds", "--store", store.path, "--pareto", "--to", tmp_path / "front")
    with (tmp_path / "front" / "front.csv").open(encoding="utf-8") as file:
        front = [int(row["trial"]) for row in csv.DictReader(file)]
    assert arm["trial"] in front
    assert set(front) <= values.keys()


def test_a_constraint_that_no_trial_meets_leaves_no_winner(store: Store) -> None:
    sweep = sweep_with(trials=2, scheduler="none", constraints={"spikes/rate": 0.0})
    run(sweep, store)
    assert events(store, "close")[-1]["end"] == "done"
    assert not store.sweep("seeds").verified.exists()
    before = store.sweep("seeds").journal.read_bytes()
    run(sweep, store)
    assert store.sweep("seeds").journal.read_bytes() == before


def test_an_export_that_was_interrupted_is_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folders of the earlier export are there, but lack the seed that was verified since."""
    store = Store(tmp_path)
    sweep = sweep_with(trials=1, scheduler="none")
    run(sweep, store)
    more = with_values(sweep, {"verify.seeds": 2})

    def interrupted(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("tune.outcome.export.Exporter.arm", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(more, store)
    with open_sweep(more, store) as driver:
        assert driver.work_left()
    run(more, store)
    for name in ("direct", "overall"):
        metrics = json.loads((store.sweep("seeds").best / name / "metrics.json").read_text(encoding="utf-8"))
        assert metrics["verified_seeds"] == 2
    with open_sweep(more, store) as driver:
        assert not driver.work_left()
