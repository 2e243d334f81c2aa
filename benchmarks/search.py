"""What a search has found after a given time: a sweep, beside plain Optuna and random search on two processes.

All sides train the same student with the same teacher, which was trained before, in the same space, two trainings at
a time, for the same wall time; the sweep's includes the start of Ray. Plain Optuna is `study.optimize` with its
default sampler, and trains every trial to its end. A side's score at a time is the best validation accuracy of the
trials that have had all their epochs by then.
"""

import multiprocessing
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import optuna

from analysis.statistics import t_interval
from benchmarks.common import Result, main, progress, spread
from benchmarks.sweep import SLOTS, conducted
from supersnn.bank import guide_for
from supersnn.config import parse
from supersnn.data import TrainingData, training_data
from supersnn.training import train
from tune.arms import Arm, resolve
from tune.space import suggest
from tune.sweep import SweepConfig

Finds = list[tuple[float, float]]
"""Seconds since the command, and the validation accuracy of a trial that was trained to its end then."""

SAMPLERS = {"optuna": optuna.samplers.TPESampler, "random": optuna.samplers.RandomSampler}
POINTS = 20
"""Times, evenly spread over a search, at which the sides are compared."""


def sweep(seed: int, seconds: float, quick: bool) -> SweepConfig:
    """Return the sweep. Half of the images validate: a score must tell good students apart."""
    plain = {
        "name": "search",
        "seed": seed,
        "dataset": {"name": "digits", "validation": 0.5, "images": 200 if quick else None},
        "student": {"architecture": "resnet8", "time_steps": 2},
        "teacher": {"epochs": 2 if quick else 12},
        "train": {"epochs": 3 if quick else 18},
        "arms": {"heterogeneous": {"teachers": ["vgg8"]}},
        "space": {
            "neuron.threshold": "default",
            "neuron.decay": "default",
            "optimizer.lr": {"log": [0.001, 1.0]},
            "loss.relation.weight": {"log": [1.0, 1000.0]},
        },
        "search": {"trials": 10_000, "hours": seconds / 3600},
        "verify": {"seeds": 1},
        "resources": {"cpus": 1, "trials_at_once": SLOTS},
    }
    return parse(SweepConfig, plain, "benchmark")


def by_sweep(config: SweepConfig, store: Path) -> Finds:
    """Return what `supersnn sweep` finds."""
    started, events = conducted(config, store)
    return [
        (event["time"] - started, event["value"])
        for event in events
        if event["event"] == "end" and event["end"] == "finished"
    ]


def by_optuna(side: str, config: SweepConfig, store: Path, seconds: float) -> Finds:
    """Return what `study.optimize` finds on as many processes as a sweep has slots."""
    url = f"sqlite:///{store / 'plain.db'}"
    started = time.time()
    optuna.create_study(study_name=side, storage=url, direction="maximize")
    with multiprocessing.get_context("spawn").Pool(SLOTS) as pool:
        arguments = [(side, config, store, url, started + seconds, worker) for worker in range(SLOTS)]
        pool.starmap(optimise, arguments, chunksize=1)
    trials = optuna.load_study(study_name=side, storage=url).get_trials(states=(optuna.trial.TrialState.COMPLETE,))
    return [(t.datetime_complete.timestamp() - started, t.values[0]) for t in trials if t.datetime_complete]


def optimise(side: str, config: SweepConfig, store: Path, url: str, until: float, worker: int) -> None:
    """Run trials until a time, in Unix seconds."""
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = SAMPLERS[side](seed=config.seed * SLOTS + worker)
    study = optuna.load_study(study_name=side, storage=url, sampler=sampler)
    (arm,) = resolve(config).values()
    study.optimize(lambda trial: objective(trial, arm, store), timeout=max(0.0, until - time.time()))


def objective(trial: optuna.Trial, arm: Arm, store: Path) -> float:
    """Return the validation accuracy after the last epoch; a student that failed has none."""
    config = arm.config(suggest(trial, arm.knobs, {}))
    data = _images(config.dataset.model_dump_json(), arm)
    for report in train(config, data, guide_for(config, data, store)):
        last = report
    if last.ended != "finished":
        raise optuna.TrialPruned
    return last.metrics["val/accuracy"]


@cache
def _images(_key: str, arm: Arm) -> TrainingData:
    return training_data(arm.config({}).dataset)


def best_by(finds: Finds, seconds: float) -> float:
    """Return the best score by some time, 0 before the first."""
    return max((value for at, value in finds if at <= seconds), default=0.0)


def ahead(ours: Sequence[Finds], theirs: Sequence[Finds], times: Sequence[float]) -> Mapping[str, Any]:
    """Return by how many points ours is ahead, paired by repeat, with Student's 95 % interval."""

    def interval(times: Sequence[float]) -> str:
        scores = [[statistics.fmean(best_by(finds, t) for t in times) for finds in side] for side in (ours, theirs)]
        points = [100 * (a - b) for a, b in zip(*scores, strict=True)]
        low, high = t_interval(points)
        return f"{statistics.fmean(points):+.2f} points [{low:+.2f}, {high:+.2f}]"

    return {"at the end": interval(times[-1:]), "mean over the second half of the time": interval(times[POINTS // 2 :])}
