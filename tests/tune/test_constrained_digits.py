"""A bound on the firing rate with early stopping, on real trainings on digits: the sparse students are not stopped."""

import itertools
import multiprocessing
import random
import statistics
from collections.abc import Iterator, Sequence

import optuna
import pytest

from supersnn.config_model import parse
from supersnn.data import training_data
from supersnn.records.metrics import SPIKE_RATE
from supersnn.training import train
from tune.description.arms import resolve
from tune.description.searches import planned
from tune.description.sweep import SweepConfig
from tune.search.studies import Studies

EPOCHS, ORDERS, BOUND = 12, 30, 0.12
THRESHOLDS, RATES = (0.4, 0.6, 0.9, 1.3, 1.7, 2.0), (0.01, 0.03, 0.1, 0.3)

Curve = list[dict[str, float]]
"""The metrics of each epoch of a training."""


def sweep(scheduler: str = "asha", **search: object) -> SweepConfig:
    plain = {
        "name": "sparse",
        "dataset": {"name": "digits", "validation": 0.3},
        "student": {"architecture": "resnet8"},
        "train": {"epochs": EPOCHS},
        "arms": {"direct": {}},
        "space": {"neuron.threshold": "default", "optimizer.lr": "default"},
        "search": {"trials": len(THRESHOLDS) * len(RATES), "sampler": "random", "scheduler": scheduler, **search},
    }
    return parse(SweepConfig, plain, "test")


def trained(values: tuple[float, float]) -> Curve:
    """Return the epochs of a training; those after a failure have the metrics of the last one."""
    (arm,) = resolve(sweep()).values()
    config = arm.config(dict(zip(("neuron.threshold", "optimizer.lr"), values, strict=True)))
    return [report.metrics for report in train(config, training_data(config.dataset))]


@pytest.fixture(scope="module")
def curves() -> list[Curve]:
    """The trainings of a grid of thresholds and learning rates that did not fail."""
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        found = pool.map(trained, itertools.product(THRESHOLDS, RATES), chunksize=1)
    return [curve for curve in found if len(curve) == EPOCHS]


def orders(curves: Sequence[Curve]) -> Iterator[list[Curve]]:
    for seed in range(ORDERS):
        yield random.Random(seed).sample(curves, len(curves))


def searched(order: Sequence[Curve], config: SweepConfig) -> tuple[float | None, int]:
    """Return the best student of a search whose trials are these trainings, by its arm, and the epochs spent."""
    live, spent = Studies(config, planned(config), optuna.storages.InMemoryStorage()), 0
    for curve in order:
        assignment = live.next()
        assert assignment is not None
        for epoch, metrics in enumerate(curve, start=1):
            spent += 1
            if live.report(assignment.key, epoch, metrics):
                live.finish(assignment.key, "stopped")
                break
        else:
            live.finish(assignment.key, "finished")
    best = live.best.get("direct")
    return (None if best is None else best[0]), spent


@pytest.mark.slow
def test_the_best_sparse_student_survives_early_stopping(curves: list[Curve]) -> None:
    feasible = [curve[-1]["val/accuracy"] for curve in curves if curve[-1][SPIKE_RATE.key] <= BOUND]
    print(f"{len(curves)} students, {len(feasible)} within the bound, the best {max(feasible):.4f}")
    assert 3 <= len(feasible) < len(curves) - 3
    assert max(feasible) < max(curve[-1]["val/accuracy"] for curve in curves)

    bounded = sweep(constraints={SPIKE_RATE.key: BOUND})
    found = [searched(order, bounded) for order in orders(curves)]
    behind = [max(feasible) - best for best, _ in found if best is not None]
    share = sum(spent for _, spent in found) / (ORDERS * EPOCHS * len(curves))
    mean, most = 100 * statistics.fmean(behind), 100 * max(behind)
    print(f"epochs {share:.0%}, behind {mean:.2f} points on average, {most:.2f} at most")
    assert len(behind) == ORDERS
    assert mean <= 0.3
    assert share <= 0.75
