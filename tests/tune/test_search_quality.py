"""TPE with successive halving against random search, on cheap objectives shaped like ours."""

import math
import random
import statistics
from collections.abc import Callable

import optuna
import pytest

from supersnn.config import parse
from tune.description.arms import resolve
from tune.description.space import Values
from tune.description.sweep import SweepConfig
from tune.search.studies import Studies

EPOCHS, TRIALS, REPEATS = 9, 48, 21
Objective = Callable[[Values], float]


def smooth(values: Values) -> float:
    """A log-scaled ridge in rate and weight, a bowl in threshold and decay; at most 0.95."""
    rate = math.log10(float(str(values["optimizer.lr"])) / 0.08)
    weight = math.log10(float(str(values["loss.relation.weight"])) / 30)
    threshold = float(str(values["neuron.threshold"])) - 0.8
    decay = float(str(values["neuron.decay"])) - 0.4
    return 0.95 - 0.35 * rate**2 - 0.06 * (weight + 0.5 * rate) ** 2 - 0.12 * threshold**2 - 0.3 * decay**2


def conditional(values: Values) -> float:
    """Two teachers, of which the better one needs another weight; the surrogate's width matters for one kind only."""
    better = values["teacher.name"] == "vgg8"
    weight = math.log10(float(str(values["loss.relation.weight"])) / (200 if better else 5))
    rate = math.log10(float(str(values["optimizer.lr"])) / 0.05)
    width = values.get("neuron.width")
    shape = 0.02 if width is None else -0.08 * math.log2(float(str(width)) / 0.7) ** 2 + 0.04
    return (0.88 if better else 0.83) - 0.08 * weight**2 - 0.2 * rate**2 + shape


SPACES = {
    smooth: {"neuron.threshold": "default", "neuron.decay": "default"},
    conditional: {
        "neuron.surrogate": {"categorical": ["triangle", "atan"]},
        "neuron.width": {"log": [0.25, 4], "when": {"neuron.surrogate": "atan"}},
    },
}


def sweep(objective: Objective, sampler: str, scheduler: str, seed: int) -> SweepConfig:
    shared = {"optimizer.lr": {"log": [0.001, 1]}, "loss.relation.weight": {"log": [1, 1000]}}
    plain = {
        "name": "quality",
        "seed": seed,
        "dataset": {"name": "digits"},
        "student": {"architecture": "resnet8"},
        "train": {"epochs": EPOCHS},
        "arms": {"heterogeneous": {"teachers": ["vgg8", "wrn16_2"]}},
        "space": {**SPACES[objective], **shared},
        "search": {"trials": 4 * TRIALS, "sampler": sampler, "scheduler": scheduler, "startup": 10},
    }
    return parse(SweepConfig, plain, "quality")


def best_by_epochs(objective: Objective, sampler: str, scheduler: str, seed: int) -> list[tuple[int, float]]:
    """Return (epochs spent, true value of the best finished trial so far), as a search of TRIALS · EPOCHS goes on."""
    config = sweep(objective, sampler, scheduler, seed)
    live = Studies(config, resolve(config), optuna.storages.InMemoryStorage(), str(seed))
    dice, spent, best, found = random.Random(seed), 0, -math.inf, []
    while spent < TRIALS * EPOCHS:
        assignment = live.next()
        assert assignment is not None
        final = objective(assignment.values)
        for epoch in range(1, EPOCHS + 1):
            spent += 1
            value = final - 0.3 * math.exp(-4 * epoch / EPOCHS) + dice.gauss(0, 0.005)
            if live.report(assignment.key, epoch, {"val/accuracy": value}):
                live.finish(assignment.key, "stopped")
                break
        else:
            live.finish(assignment.key, "finished")
            best = max(best, final)
        found.append((spent, best))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("objective", [smooth, conditional])
def test_half_of_random_searchs_budget_is_enough(objective: Objective) -> None:
    shares = []
    for seed in range(REPEATS):
        target = best_by_epochs(objective, "random", "none", seed)[-1][1]
        ours = best_by_epochs(objective, "tpe", "asha", seed)
        reached = next((spent for spent, best in ours if best >= target), math.inf)
        shares.append(reached / (TRIALS * EPOCHS))
    print(objective.__name__, [round(share, 2) for share in sorted(shares)])
    assert statistics.median(shares) <= 0.5
