"""A bound on the firing rate with early stopping, on real trainings on digits: the sparse students are not stopped."""

import itertools
import multiprocessing
import random
import statistics
from collections.abc import Iterator, Sequence
from unittest.mock import patch

import optuna
import pytest

from supersnn.config_model import parse
from supersnn.data import training_data
from supersnn.records.metrics import SPIKE_RATE
from supersnn.training import train
from tests.support import studies
from tune.description.arms import resolve
from tune.description.searches import planned
from tune.description.sweep import SweepConfig
from tune.search.constrained_rungs import ConstrainedRungs
from tune.search.studies import Studies

EPOCHS, ORDERS, BOUND = 12, 30, 0.12
THRESHOLDS, RATES = (0.4, 0.6, 0.9, 1.3, 1.7, 2.0), (0.01, 0.03, 0.1, 0.3)

Curve = list[dict[str, float]]
"""The metrics of each epoch of a training."""


def sweep(**search: object) -> SweepConfig:
    plain = {
        "name": "sparse",
        "dataset": {"name": "digits", "validation": 0.3},
        "student": {"architecture": "resnet8"},
        "train": {"epochs": EPOCHS},
        "arms": {"direct": {}},
        "space": {"neuron.threshold": "default", "optimizer.lr": "default"},
        "search": {"trials": len(THRESHOLDS) * len(RATES), "sampler": "random", "scheduler": "asha", **search},
    }
    return parse(SweepConfig, plain, "test")


def trained(values: tuple[float, float]) -> Curve:
    """Return the epochs of a training, none of one that fails."""
    (arm,) = resolve(sweep()).values()
    config = arm.config(dict(zip(("neuron.threshold", "optimizer.lr"), values, strict=True)))
    reports = list(train(config, training_data(config.dataset)))
    return [report.metrics for report in reports] if reports[-1].ended == "finished" else []


@pytest.fixture(scope="module")
def curves() -> list[Curve]:
    """The trainings of a grid of thresholds and learning rates that did not fail."""
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        found = pool.map(trained, itertools.product(THRESHOLDS, RATES), chunksize=1)
    return [curve for curve in found if curve]


def orders(curves: Sequence[Curve]) -> Iterator[list[Curve]]:
    for seed in range(ORDERS):
        yield random.Random(seed).sample(curves, len(curves))


def searched(order: Sequence[Curve], config: SweepConfig) -> tuple[float | None, int]:
    """Return the best student of a search whose trials are these trainings, by its arm, and the epochs spent."""
    live, spent = Studies(config, planned(config), optuna.storages.InMemoryStorage()), 0
    for curve in order:
        assignment = live.next()
        assert assignment is not None
        spent += studies.train(live, assignment.key, curve)
    best = live.best.get("direct")
    return (None if best is None else best[0]), spent


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_best_sparse_student_survives_early_stopping(curves: list[Curve]) -> None:
    feasible = [curve[-1]["val/accuracy"] for curve in curves if curve[-1][SPIKE_RATE.key] <= BOUND]
    print(f"{len(curves)} students, {len(feasible)} within the bound, the best {max(feasible):.4f}")
    assert 3 <= len(feasible) < len(curves) - 3
    assert max(feasible) < max(curve[-1]["val/accuracy"] for curve in curves)

    bounded = sweep(constraints={SPIKE_RATE.key: BOUND})
    ours, share = compared(curves, bounded, max(feasible))
    with patch.object(ConstrainedRungs, "value", lambda _self, _number, _step, accuracy, _metrics: accuracy):
        by_accuracy, _ = compared(curves, bounded, max(feasible))
    print(f"epochs {share:.0%}; points behind: {100 * ours:.2f}, by accuracy alone {100 * by_accuracy:.2f}")
    assert ours <= 0.003
    assert share <= 0.75
    assert by_accuracy >= ours + 0.01


def compared(curves: Sequence[Curve], config: SweepConfig, best: float) -> tuple[float, float]:
    """Return by how much the winners of searches are behind on average, none counting as 0, and the share of epochs."""
    found = [searched(order, config) for order in orders(curves)]
    behind = statistics.fmean(best - (value or 0.0) for value, _ in found)
    return behind, sum(spent for _, spent in found) / (ORDERS * EPOCHS * len(curves))
