"""Constraints and early stopping together: sparse students are not stopped by accurate ones that fire too much."""

import math
import random
from collections.abc import Iterator
from typing import Any

import optuna
import pytest

from supersnn.config_model import parse
from tests.support import studies
from tune.description.searches import planned
from tune.description.sweep import SweepConfig
from tune.search.constrained_rungs import LEAST_FINISHED, ConstrainedRungs
from tune.search.studies import Studies

EPOCHS, TRIALS = 12, 20
BOUNDS = {"spikes/rate": 0.12}


def plain_sweep(scheduler: str, seed: int, bounds: dict[str, float], **search: object) -> dict[str, Any]:
    """Return a sweep of one arm with bounds."""
    return {
        "name": "bounded",
        "seed": seed,
        "dataset": {"name": "digits"},
        "student": {"architecture": "resnet8"},
        "train": {"epochs": EPOCHS},
        "arms": {"direct": {}},
        "space": {"neuron.threshold": "default", "optimizer.lr": "default"},
        "search": {"trials": TRIALS, "scheduler": scheduler, "constraints": bounds, **search},
    }


def test_without_constraints_the_value_is_the_accuracy() -> None:
    assert ConstrainedRungs({}).value(0, 1, 0.7, {"spikes/rate": 0.9}) == 0.7


def test_all_feasible_trials_are_ahead_of_all_infeasible_ones() -> None:
    rungs = ConstrainedRungs({"spikes/rate": 0.2, "energy/nj": 100.0})
    values = [
        rungs.value(number, 1, accuracy, {"spikes/rate": rate, "energy/nj": energy})
        for number, (accuracy, rate, energy) in enumerate(
            [(0.9, 0.1, 50.0), (0.1, 0.2, 100.0), (0.95, 0.22, 50.0), (0.95, 0.3, 50.0), (0.99, 0.1, 400.0)]
        )
    ]
    assert values == sorted(values, reverse=True)
    assert values[:2] == [0.9, 0.1]
    assert values[2:] == pytest.approx([-0.1, -0.5, -3.0])
    assert rungs.value(9, 1, 0.5, {"val/accuracy": 0.5}) == 0.5  # nothing that is bounded was measured


def test_rates_that_rise_are_predicted_from_finished_trials_also_after_a_restart() -> None:
    rungs, known = ConstrainedRungs(BOUNDS), []
    for number in range(LEAST_FINISHED):
        assert rungs.value(number, 1, 0.5, {"spikes/rate": 0.07}) == 0.5
        rungs.value(number, 2, 0.6, {"spikes/rate": 0.14})
        known.append(dict(rungs.steps(number)))
        rungs.finish(number, finished=True)
    assert known[0] == {"1": {"spikes/rate": 0.07}, "2": {"spikes/rate": 0.14}}
    restarted = ConstrainedRungs(BOUNDS)
    for steps in known:
        restarted.learn(steps)
    for one in (rungs, restarted):
        assert one.value(7, 1, 0.5, {"spikes/rate": 0.07}) == pytest.approx(-(0.14 - 0.12) / 0.12)
        assert one.value(8, 1, 0.5, {"spikes/rate": 0.059}) == 0.5
        one.finish(7, finished=False)
        assert one.steps(7) == {}


@pytest.mark.parametrize("objectives", [["accuracy"], ["accuracy", "synaptic_ops"]])
def test_stops_are_the_same_when_the_driver_dies_in_the_middle_of_every_trial(objectives: list[str]) -> None:
    def ends(dies: bool) -> dict[str, tuple[int, bool]]:
        config = parse(SweepConfig, plain_sweep("asha", 3, BOUNDS, objectives=objectives), "test")
        storage = optuna.storages.InMemoryStorage()
        live, found = Studies(config, planned(config), storage), dict[str, tuple[int, bool]]()
        while (assignment := live.next()) is not None:
            key, draw = assignment.key, random.Random(assignment.key)
            level, rate = draw.random(), draw.uniform(0.05, 0.3)
            for epoch in range(1, EPOCHS + 1):
                if dies and epoch == 5:
                    live = Studies(config, planned(config), storage)
                    again = live.next()
                    assert again is not None
                    assert (again.key, again.values) == (key, assignment.values)
                now = rate * (0.6 + 0.4 * epoch / EPOCHS)
                metrics = {"val/accuracy": level * epoch / EPOCHS, "spikes/rate": now, "ops/synaptic": 1e6 * now}
                stopped = live.report(key, epoch, metrics)
                if stopped or epoch == EPOCHS:
                    live.finish(key, "stopped" if stopped else "finished")
                    found[key] = epoch, stopped
                    break
        return found

    uninterrupted = ends(dies=False)
    assert {stopped for _, stopped in uninterrupted.values()} == {True, False}
    assert ends(dies=True) == uninterrupted


@pytest.mark.parametrize("objectives", [["accuracy"], ["accuracy", "synaptic_ops"]])
def test_a_stopped_trial_has_the_constraints_predicted_for_its_end_also_after_a_kill(objectives: list[str]) -> None:
    """Rates double from the rung to the end: one that is within the bound at the rung is infeasible for the sampler."""

    def run(dies: bool) -> tuple[list[dict[str, float]], list[object]]:
        plain = plain_sweep("asha", 0, BOUNDS, objectives=objectives, sampler="tpe", startup=4)
        config = parse(SweepConfig, plain, "test")
        storage = optuna.storages.InMemoryStorage()
        live, values = Studies(config, planned(config), storage), list[object]()
        for number in range(8):
            assignment = live.next()
            assert assignment is not None
            values.append(assignment.values)
            rising = number >= LEAST_FINISHED
            rate, accuracy = (0.1, 0.1 + number / 100) if rising else (0.05, 0.9 + number / 100)
            for epoch in range(1, EPOCHS + 1):
                now = rate * (2 if epoch == EPOCHS else 1)
                metrics = {"val/accuracy": accuracy, "spikes/rate": now, "ops/synaptic": 1e6 * now}
                if live.report(assignment.key, epoch, metrics):
                    if dies:
                        live = Studies(config, planned(config), storage)
                    else:
                        live.finish(assignment.key, "stopped")
                    break
            else:
                live.finish(assignment.key, "finished")
        trials = optuna.load_study(study_name="bounded/direct", storage=storage).get_trials(deepcopy=False)
        return [dict(trial.constraints) for trial in trials], values

    constraints, values = run(dies=False)
    stopped = constraints[LEAST_FINISHED]
    assert stopped == pytest.approx({"spikes/rate": 0.2 - 0.12})
    assert run(dies=True) == (constraints, values)


def test_an_infeasible_trial_takes_no_feasible_one_off_the_front() -> None:
    plain = plain_sweep("asha", 0, {"spikes/rate": 0.2}, objectives=["accuracy", "synaptic_ops"])
    plain["search"] |= {"min_epochs": 1, "trials": 6}
    config = parse(SweepConfig, plain, "test")
    live = Studies(config, planned(config), optuna.storages.InMemoryStorage())
    for accuracy, operations, rate in [(0.9, 10.0, 0.9), (0.8, 90.0, 0.1), (0.7, 80.0, 0.1), (0.6, 85.0, 0.1)]:
        assignment = live.next()
        assert assignment is not None
        live.report(assignment.key, 1, {"val/accuracy": accuracy, "ops/synaptic": operations, "spikes/rate": rate})
    sparse = live.next()
    assert sparse is not None
    assert not live.report(sparse.key, 1, {"val/accuracy": 0.5, "ops/synaptic": 50.0, "spikes/rate": 0.1})


def curve(rate: float, final: float, noise: random.Random) -> Iterator[dict[str, float]]:
    for epoch in range(1, EPOCHS + 1):
        now = rate * (0.6 + 0.4 * epoch / EPOCHS)
        accuracy = final * (1 - math.exp(-epoch / 2.5)) + noise.gauss(0, 0.01)
        yield {"val/accuracy": accuracy, "spikes/rate": now, "energy/nj": 1000 * now}


def searched(scheduler: str, seed: int, bounds: dict[str, float]) -> tuple[float | None, int]:
    """Search an arm whose accurate students fire too much, and fire more as they train; return its best, and epochs."""
    config = parse(SweepConfig, plain_sweep(scheduler, seed, bounds), "test")
    live, noise, spent = Studies(config, planned(config), optuna.storages.InMemoryStorage()), random.Random(seed), 0
    while (assignment := live.next()) is not None:
        threshold = float(str(assignment.values["neuron.threshold"]))
        rate = 0.5 * math.exp(-1.2 * (threshold - 0.3))
        off = abs(math.log10(float(str(assignment.values["optimizer.lr"])) / 0.08))
        final = 0.95 - 0.08 * (threshold - 0.3) - 0.1 * off + noise.gauss(0, 0.004)
        spent += studies.train(live, assignment.key, curve(rate, final, noise))
    best = live.best.get("direct")
    return (None if best is None else best[0]), spent


@pytest.mark.parametrize("bounds", [BOUNDS, {"spikes/rate": 0.12, "energy/nj": 110.0}])
def test_every_arm_has_a_feasible_winner_at_a_part_of_the_epochs(bounds: dict[str, float]) -> None:
    stopping = [searched("asha", seed, bounds) for seed in range(30)]
    everything = [searched("none", seed, bounds) for seed in range(30)]
    found = [(a, b) for (a, _), (b, _) in zip(stopping, everything, strict=True) if a is not None and b is not None]
    assert len(found) == 30
    spent = sum(epochs for _, epochs in stopping) / sum(epochs for _, epochs in everything)
    behind = sum(b - a for a, b in found) / 30
    print(f"epochs {spent:.0%}, best {100 * behind:.2f} points behind")
    assert spent <= 0.65
    assert behind <= 0.003
