"""The share of random search's budget that TPE needs to find as good a student, with successive halving and without.

Three objectives: two formulas shaped like ours (log-scaled and noisy; one conditional), and real trainings on digits.
The trainings are made once, on a grid of configurations with the relational loss; each is one line of DIR/table.jsonl
when it has ended, and the same command continues from there. A trial of the search then has the curve of the nearest
one, so that many repeats of a search cost nothing.

    python -m benchmarks.quality --folder DIR [--json]
"""

import argparse
import itertools
import json
import math
import multiprocessing
import random
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import optuna

from benchmarks.common import Lead, lead_of, machine, markdown, progress, spread, write_section
from benchmarks.evidence_file import EvidenceFile, read_evidence
from supersnn.config import TrainConfig
from supersnn.config_model import parse, with_values
from supersnn.data import training_data
from supersnn.teacher_sources import teacher_source_for
from supersnn.training import train
from tune.description.arms import resolve
from tune.description.searches import planned
from tune.description.space import Values
from tune.description.sweep import SweepConfig
from tune.search.studies import Studies
from tune.versions import versions

EPOCHS, TRIALS, REPEATS = 9, 48, 41
"""Epochs of a trial; random search's budget in full trials; repeats of each search."""
BUDGETS = (10, 14, 20, 30, 48)
"""Numbers of full trainings after whose epochs two searches are compared."""
SEARCHED = {
    "optimizer.lr": (0.003, 0.01, 0.03, 0.1, 0.3, 1.0),
    "loss.relation.weight": (1.0, 4.0, 16.0, 63.0, 250.0, 1000.0),
    "neuron.threshold": (0.4, 0.8, 1.2, 1.6, 2.0),
}
"""The grid of real trainings."""

Found = list[tuple[int, float]]
"""Epochs spent, and the true value of the best trial finished by then; minus infinity before the first."""

Curve = Callable[[int], float]
"""From an epoch, counted from 1, to the value that a trial reports after it."""


class Objective(NamedTuple):
    """What is searched: the space, a trial's curve of reports (with noise), and its true value."""

    space: Mapping[str, Any]
    teachers: tuple[str, ...]
    curve: Callable[[Values, random.Random], Curve]
    worth: Callable[[Values], float]


def _number(values: Values, key: str) -> float:
    return float(str(values[key]))


def smooth(values: Values) -> float:
    """A log-scaled ridge in rate and weight, a bowl in threshold and decay; at most 0.95."""
    rate = math.log10(_number(values, "optimizer.lr") / 0.08)
    weight = math.log10(_number(values, "loss.relation.weight") / 30)
    threshold, decay = _number(values, "neuron.threshold") - 0.8, _number(values, "neuron.decay") - 0.4
    return 0.95 - 0.35 * rate**2 - 0.06 * (weight + 0.5 * rate) ** 2 - 0.12 * threshold**2 - 0.3 * decay**2


def conditional(values: Values) -> float:
    """Two teachers, the better of which needs another weight; the surrogate's width matters for one kind only."""
    better = values["teacher.name"] == "vgg8"
    weight = math.log10(_number(values, "loss.relation.weight") / (200 if better else 5))
    rate = math.log10(_number(values, "optimizer.lr") / 0.05)
    width = math.log2(_number(values, "neuron.width") / 0.7) if "neuron.width" in values else None
    shape = 0.02 if width is None else 0.04 - 0.08 * width**2
    return (0.88 if better else 0.83) - 0.08 * weight**2 - 0.2 * rate**2 + shape


def _learning(worth: Callable[[Values], float]) -> Callable[[Values, random.Random], Curve]:
    """The curve of a formula: an exponential rise to its true value, with noise."""

    def curve(values: Values, dice: random.Random) -> Curve:
        final = worth(values)
        return lambda epoch: final - 0.3 * math.exp(-4 * epoch / EPOCHS) + dice.gauss(0, 0.005)

    return curve


SHARED = {"optimizer.lr": {"log": [0.001, 1]}, "loss.relation.weight": {"log": [1, 1000]}}
FORMULAS = {
    "smooth": Objective(
        SHARED | {"neuron.threshold": "default", "neuron.decay": "default"},
        ("vgg8", "wrn16_2"),
        _learning(smooth),
        smooth,
    ),
    "conditional": Objective(
        SHARED
        | {
            "neuron.surrogate": {"categorical": ["triangle", "atan"]},
            "neuron.width": {"log": [0.25, 4], "when": {"neuron.surrogate": "atan"}},
        },
        ("vgg8", "wrn16_2"),
        _learning(conditional),
        conditional,
    ),
}


def digits(table: Mapping[tuple[float, ...], list[float]]) -> Objective:
    """Return the objective of real trainings: validation accuracies by epoch, by the values of `SEARCHED`."""

    def nearest(values: Values) -> list[float]:
        point = (min(grid, key=lambda x: abs(math.log(x / _number(values, key)))) for key, grid in SEARCHED.items())
        return table[tuple(point)]

    space = {key: {"log": [min(grid), max(grid)]} for key, grid in SEARCHED.items()}
    return Objective(
        space, ("vgg8",), lambda values, _: lambda epoch: nearest(values)[epoch - 1], lambda values: nearest(values)[-1]
    )


def sweep(objective: Objective, sampler: str, scheduler: str, seed: int) -> SweepConfig:
    """Return a sweep of one arm over an objective's space."""
    plain = {
        "name": "quality",
        "seed": seed,
        "dataset": {"name": "digits", "validation": 0.5, "augment": {"crop": 1, "views": EPOCHS}},
        "student": {"architecture": "resnet8"},
        "teacher": {"epochs": 12},
        "train": {"epochs": EPOCHS},
        "arms": {"heterogeneous": {"teachers": list(objective.teachers)}},
        "space": dict(objective.space),
        "search": {"trials": 4 * TRIALS, "sampler": sampler, "scheduler": scheduler, "startup": 10},
    }
    return parse(SweepConfig, plain, "quality")


def best_by_epochs(objective: Objective, sampler: str, scheduler: str, seed: int) -> Found:
    """Return the best values of a search as it spends TRIALS · EPOCHS epochs."""
    config = sweep(objective, sampler, scheduler, seed)
    live = Studies(config, planned(config), optuna.storages.InMemoryStorage())
    dice, spent, best, found = random.Random(seed), 0, -math.inf, []
    while spent < TRIALS * EPOCHS:
        assignment = live.next()
        assert assignment is not None
        curve = objective.curve(assignment.values, dice)
        for epoch in range(1, EPOCHS + 1):
            spent += 1
            if live.report(assignment.key, epoch, {"val/accuracy": curve(epoch)}):
                live.finish(assignment.key, "stopped")
                break
        else:
            live.finish(assignment.key, "finished")
            best = max(best, objective.worth(assignment.values))
        found.append((spent, best))
    return found


def searches(objective: Objective, sampler: str, scheduler: str, repeats: int = REPEATS) -> list[Found]:
    """Return `repeats` searches, which differ by their seed."""
    return [best_by_epochs(objective, sampler, scheduler, seed) for seed in range(repeats)]


def shares(ours: Sequence[Found], randoms: Sequence[Found]) -> list[float]:
    """Return, by repeat, the share of random search's budget after which ours reaches its final best, or inf."""
    return [
        next((spent for spent, best in one if best >= random_[-1][1]), math.inf) / (TRIALS * EPOCHS)
        for one, random_ in zip(ours, randoms, strict=True)
    ]


def lead(ours: Sequence[Found], theirs: Sequence[Found], trainings: int) -> Lead:
    """Return our lead in points after the epochs of `trainings` full trainings, paired by repeat.

    A search that has finished no trial by then counts with its first one.
    """
    scores = [[_best_by(one, trainings * EPOCHS) for one in side] for side in (ours, theirs)]
    return lead_of(*scores)


def _best_by(found: Found, epochs: int) -> float:
    finite = [(spent, best) for spent, best in found if math.isfinite(best)]
    return max((best for spent, best in finite if spent <= epochs), default=finite[0][1])


def measured(folder: Path) -> dict[tuple[float, ...], list[float]]:
    """Return the grid's trainings on digits, after running those that are missing."""
    path = folder / "table.jsonl"
    table = {tuple(made["point"]): made["curve"] for made in read_evidence(path)}
    missing = [point for point in itertools.product(*SEARCHED.values()) if point not in table]
    if missing:
        _trained((missing[0], folder, 1))  # trains the teacher and computes its cache
    journal = EvidenceFile(path)
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        tasks: Iterator[tuple[tuple[float, ...], Path, int]] = ((point, folder, EPOCHS) for point in missing)
        for number, (point, curve) in enumerate(pool.imap_unordered(_trained, tasks), start=1):
            journal.append("training", point=point, curve=curve)
            table[point] = curve
            progress(f"{number}/{len(missing)} {point}: {curve[-1]:.3f}")
    journal.close()
    return table


def _trained(task: tuple[tuple[float, ...], Path, int]) -> tuple[tuple[float, ...], list[float]]:
    """Train a point of the grid; a failed student keeps its last accuracy."""
    point, folder, epochs = task
    (arm,) = resolve(sweep(digits({}), "random", "none", 0)).values()
    values: Values = dict(zip(SEARCHED, point, strict=True))
    config: TrainConfig = with_values(arm.config({**values, "teacher.name": "vgg8"}), {"seed": 0})
    data = training_data(config.dataset)
    curve: list[float] = []
    for report in itertools.islice(train(config, data, teacher_source_for(config, data, folder)), epochs):
        curve.append(report.metrics.get("val/accuracy", curve[-1] if curve else 0.0))
    return point, curve + curve[-1:] * (EPOCHS - len(curve))


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality")
    parser.add_argument("--folder", type=Path, required=True, help="where the trainings and their teacher are kept")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--write", type=Path, help="a Markdown file whose section on this benchmark is replaced")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    objectives = FORMULAS | {"digits": digits(measured(options.folder))}
    found, leads = {}, {}
    for name, objective in objectives.items():
        randoms = searches(objective, "random", "none")
        full, ours = (searches(objective, "tpe", scheduler) for scheduler in ("none", "asha"))
        found[name] = shares(ours, randoms)
        found[f"{name}, no trial stopped"] = shares(full, randoms)
        leads[f"{name}: points ahead, after the epochs of so many trainings, of TPE that stops no trial"] = {
            trainings: str(lead(ours, full, trainings)) for trainings in BUDGETS
        }
    document = {
        "name": "quality",
        "machine": machine(),
        "versions": versions(),
        "command": f"python -m benchmarks.quality --folder {options.folder}",
        "ratios": {name: min(statistics.median(found[name]), 1.0) for name in objectives},
        "unit": "share of random search's budget (one that it does not suffice for counts as 1)",
        "measured": {name: spread([min(share, 1.0) for share in each])._asdict() for name, each in found.items()},
        "notes": {f"{name}: not reached within it": sum(map(math.isinf, each)) for name, each in found.items()} | leads,
    }
    if options.write:
        write_section(options.write, "quality", markdown(document))
    if options.json:
        print(json.dumps(document, indent=1))
    else:
        print("\n".join(markdown(document)))


if __name__ == "__main__":
    main()
