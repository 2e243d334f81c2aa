"""What a search has found after a given time: a sweep, beside plain Optuna and random search on two processes.

All sides train the same student with the same teacher, which was trained before, in the same space, two trainings at
a time, for the same wall time; the sweep's includes the start of Ray. Plain Optuna is `study.optimize` with its
default sampler, and trains every trial to its end. A side's score at a time is the best validation accuracy of the
trials that have had all their epochs by then.
"""

import multiprocessing
import statistics
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import optuna

from analysis.statistics import t_interval
from benchmarks.common import Result, main, progress, spread
from benchmarks.sweep import SLOTS, conducted
from supersnn.bank import guide_for
from supersnn.config import parse
from supersnn.data import training_data
from supersnn.training import train
from tune.description.arms import resolve
from tune.description.space import suggest
from tune.description.sweep import SweepConfig

Finds = list[tuple[float, float]]
"""Seconds since the command, and the validation accuracy of a trial that was trained to its end then."""

SAMPLERS = {"optuna": optuna.samplers.TPESampler, "random": optuna.samplers.RandomSampler}
POINTS = 20
"""Times, evenly spread over the second half of a search, at which the sides are compared."""


class Lead(NamedTuple):
    """Points of accuracy by which one side is ahead: the mean over the repeats, with Student's 95 % interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:+.2f} points [{self.low:+.2f}, {self.high:+.2f}]"


def sweep(seed: int, seconds: float, quick: bool) -> SweepConfig:
    """Return the sweep. Half of the images validate: a score must tell good students apart."""
    plain = {
        "name": f"search-{seed}",
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
    url, name = f"sqlite:///{store / 'plain.db'}", f"{side}-{config.seed}"
    started = time.time()
    optuna.create_study(study_name=name, storage=url, direction="maximize")
    with multiprocessing.get_context("spawn").Pool(SLOTS) as pool:
        workers = [(side, config, store, url, started + seconds, worker) for worker in range(SLOTS)]
        pool.starmap(optimise, workers, chunksize=1)
    trials = optuna.load_study(study_name=name, storage=url).get_trials(states=(optuna.trial.TrialState.COMPLETE,))
    return [(t.datetime_complete.timestamp() - started, t.values[0]) for t in trials if t.datetime_complete]


def optimise(side: str, config: SweepConfig, store: Path, url: str, until: float, worker: int) -> None:
    """Run trials until a time, in Unix seconds; what is under way then goes on to its end."""
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = SAMPLERS[side](seed=config.seed * SLOTS + worker)
    study = optuna.load_study(study_name=f"{side}-{config.seed}", storage=url, sampler=sampler)
    study.optimize(Objective(config, store), timeout=max(0.0, until - time.time()))


class Objective:
    """A trial's validation accuracy after its last epoch; a student that failed has none."""

    def __init__(self, config: SweepConfig, store: Path) -> None:
        (self._arm,) = resolve(config).values()
        self._data, self._store = training_data(config.dataset), store

    def __call__(self, trial: optuna.trial.BaseTrial) -> float:
        """Train what the trial suggests."""
        config = self._arm.config(suggest(trial, self._arm.knobs, {}))
        *_, last = train(config, self._data, guide_for(config, self._data, self._store))
        if last.ended != "finished":
            raise optuna.TrialPruned
        return last.metrics["val/accuracy"]

    def prepare(self) -> None:
        """Have the teacher trained and its bank filled."""
        config = self._arm.config({"loss.relation.weight": 1.0})
        guide_for(config, self._data, self._store)


def best_by(finds: Finds, seconds: float) -> float:
    """Return the best score by some time, 0 before the first."""
    return max((value for at, value in finds if at <= seconds), default=0.0)


def lead(ours: Sequence[Finds], theirs: Sequence[Finds], times: Sequence[float]) -> Lead:
    """Return by how many points ours is ahead, on average over some times, paired by repeat."""
    scores = [[statistics.fmean(best_by(finds, t) for t in times) for finds in side] for side in (ours, theirs)]
    points = [100 * (a - b) for a, b in zip(*scores, strict=True)]
    low, high = t_interval(points)
    return Lead(statistics.fmean(points), float(low), float(high))


def measure(quick: bool) -> Result:
    """Return how good the sides' best students are, after all the time and on the way."""
    repeats, seconds = (2, 30.0) if quick else (5, 240.0)
    found: dict[str, list[Finds]] = {"supersnn": [], **{side: [] for side in SAMPLERS}}
    with tempfile.TemporaryDirectory() as scratch:
        store = Path(scratch)
        for seed in range(repeats):
            config = sweep(seed, seconds, quick)
            Objective(config, store).prepare()
            found["supersnn"].append(by_sweep(config, store))
            for side in SAMPLERS:
                found[side].append(by_optuna(side, config, store, seconds))
            ends = {side: f"{best_by(finds[-1], seconds):.4f}" for side, finds in found.items()}
            progress(f"repeat {seed + 1} of {repeats}: {ends}")
    end, later = [seconds], [seconds * (0.5 + 0.5 * point / POINTS) for point in range(1, POINTS + 1)]
    ours = found["supersnn"]
    return Result(
        name="search",
        unit="best validation accuracy",
        ratios={f"points_ahead_of_{side}": lead(ours, found[side], end).mean for side in SAMPLERS},
        measured={
            f"{side}, after {seconds:.0f} s": spread([best_by(finds, seconds) for finds in repeated])
            for side, repeated in found.items()
        },
        notes={
            **{f"ahead of {side} at the end": str(lead(ours, found[side], end)) for side in SAMPLERS},
            **{f"ahead of {side} in the second half": str(lead(ours, found[side], later)) for side in SAMPLERS},
            "trials trained to their end, a repeat": {
                side: [len(finds) for finds in repeated] for side, repeated in found.items()
            },
        },
    )


if __name__ == "__main__":
    main("search", measure)
