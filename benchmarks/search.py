"""The best student found in a given time: a sweep, compared with plain Optuna, random search and stock Ray Tune.

All sides train the same student with the same teacher, trained beforehand, in the same space, two trainings at a time,
for the same wall time, which includes the start of Ray for the sweep and for stock Ray Tune (`benchmarks.stock`). The
time is that of `Problem.trainings` full trainings on an otherwise idle machine. Plain Optuna is `study.optimize` with
its default sampler, and trains every trial to its end.
A side's score at a time is the best validation accuracy of the trials that have had all their epochs by then. All sides
have the huge pages that a sweep gives its workers.

With `--folder` each search that has ended is a line of a journal in it, and the same command continues from there.
"""

import multiprocessing
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import optuna
from optuna.trial import BaseTrial, FixedTrial, TrialState

from benchmarks.common import Lead, Result, lead_of, parser, present, progress, spread
from benchmarks.evidence_file import EvidenceFile, read_evidence
from benchmarks.stock import run_stock
from benchmarks.sweep import SLOTS, run_sweep
from supersnn.config_model import parse, with_values
from supersnn.data import training_data
from supersnn.teacher_sources import teacher_source_for
from supersnn.training import train
from tune.description.arms import resolve
from tune.description.space import suggest
from tune.description.sweep import SweepConfig
from tune.execution.executor import PAGES

EPOCHS = "epochs"
"""The attribute of plain Optuna's trials with their number of epochs."""

Finds = list[tuple[float, float]]
"""Seconds since the command, and the validation accuracy of a trial whose training ended then."""


class Problem(NamedTuple):
    """The student, its epochs, the time as a number of full trainings, and the number of repeats."""

    student: str
    epochs: int
    trainings: int
    repeats: int


FEW = Problem("resnet14", epochs=36, trainings=16, repeats=36)
"""Trainings of some 15 s, and time for as many as a sweep's default per arm.

Two searches differ by some 0.8 points (standard deviation): with 36 repeats a lead of 0.4 shows four times in five.
"""
MANY = Problem("resnet8", epochs=18, trainings=124, repeats=5)
"""Trainings of some 4 s, and time for so many that hardly a better student is left to be found."""
QUICK = Problem("resnet8", epochs=3, trainings=80, repeats=2)

OURS = "supersnn"
SAMPLERS = {"optuna": optuna.samplers.TPESampler, "random": optuna.samplers.RandomSampler}
STOCK = "ray"
SIDES = (OURS, *SAMPLERS)
"""The sides of the usual comparison; that with stock Ray Tune is `benchmarks.search_stock`."""
POINTS = 20
"""Times, evenly spread over the second half of a search, at which the sides are compared."""
SHARES = (0.6, 0.8, 0.9, 0.95)
"""Shares of the time at which the sides are compared too: at its end the others' next trainings have almost ended."""
FIRST_SEED = 100
"""Of the repeats; seeds below it were used to judge earlier settings."""


class Searched(NamedTuple):
    """One search of one side at the end of its time: its finds, its trained epochs, its started trials.

    Plain Optuna's epochs are those of ended trials: up to two more trials were running.
    """

    finds: Finds
    epochs: int
    begun: int


def sweep(problem: Problem, seed: int, seconds: float) -> SweepConfig:
    """Return the sweep. Half of the images are for validation, so that scores distinguish good students."""
    plain = {
        "name": f"search-{seed}",
        "seed": seed,
        "dataset": {"name": "digits", "validation": 0.5},
        "student": {"architecture": problem.student, "time_steps": 2},
        "teacher": {"epochs": 12},
        "train": {"epochs": problem.epochs},
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


def by_sweep(config: SweepConfig, store: Path, seconds: float) -> Searched:
    """Return the search of `supersnn sweep`."""
    started, events = run_sweep(config, store, seconds)
    return _searched(started, events, seconds)


def _searched(started: float, events: list[dict[str, Any]], seconds: float) -> Searched:
    reported = [event for event in events if event["time"] <= started + seconds]
    return Searched(
        finds=[(event["time"] - started, event["value"]) for event in reported if event.get("end") == "finished"],
        epochs=sum(event["event"] == "epoch" for event in reported),
        begun=sum(event["event"] == "start" for event in reported),
    )


def searched(side: str, config: SweepConfig, store: Path, seconds: float) -> Searched:
    """Return the search of a side."""
    if side == STOCK:
        return by_ray(config, store, seconds)
    return by_sweep(config, store, seconds) if side == OURS else by_optuna(side, config, store, seconds)


def by_ray(config: SweepConfig, store: Path, seconds: float) -> Searched:
    """Return the search of stock Ray Tune."""
    started, events = run_stock(config, store, seconds)
    return _searched(started, events, seconds)


def by_optuna(side: str, config: SweepConfig, store: Path, seconds: float) -> Searched:
    """Return the search of `study.optimize` on as many processes as a sweep has slots, ended when the time is up."""
    url, name = f"sqlite:///{store / 'plain.db'}", f"{side}-{config.seed}"
    started = time.time()
    optuna.create_study(study_name=name, storage=url, direction="maximize")
    with multiprocessing.get_context("spawn").Pool(SLOTS) as pool:
        workers = pool.starmap_async(optimise, [(side, config, store, url, worker) for worker in range(SLOTS)], 1)
        workers.wait(started + seconds - time.time())
        if workers.ready():
            workers.get()
            raise RuntimeError(f"{name}: ended before the time was up")
    trials = optuna.load_study(study_name=name, storage=url).get_trials()
    ended = [(t.datetime_complete.timestamp() - started, t) for t in trials if t.datetime_complete]
    ended = [(at, t) for at, t in ended if at <= seconds]
    return Searched(
        finds=[(at, t.values[0]) for at, t in ended if t.state == TrialState.COMPLETE],
        epochs=sum(t.user_attrs[EPOCHS] for _, t in ended),
        begun=len(trials),
    )


def optimise(side: str, config: SweepConfig, store: Path, url: str, worker: int) -> None:
    """Run trials until the process is terminated."""
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = SAMPLERS[side](seed=config.seed * SLOTS + worker)
    study = optuna.load_study(study_name=f"{side}-{config.seed}", storage=url, sampler=sampler)
    study.optimize(Objective(config, store))


class Objective:
    """A trial's validation accuracy after its last epoch; a failed student has none."""

    def __init__(self, config: SweepConfig, store: Path) -> None:
        (self._arm,) = resolve(config).values()
        self._data, self._store = training_data(config.dataset), store

    def __call__(self, trial: BaseTrial) -> float:
        """Train with the trial's suggested values."""
        config = self._arm.config(suggest(trial, self._arm.parameters, {}))
        *_, last = train(config, self._data, teacher_source_for(config, self._data, self._store))
        trial.set_user_attr(EPOCHS, last.epoch)
        if last.ended != "finished":
            raise optuna.TrialPruned
        return last.metrics["val/accuracy"]


MIDDLE = {"neuron.threshold": 1.0, "neuron.decay": 0.5, "optimizer.lr": 0.03, "loss.relation.weight": 30.0}
"""About the middle of the space."""


def teach(config: SweepConfig, store: Path) -> None:
    """Train the teacher and compute its cache."""
    Objective(with_values(config, {"train.epochs": 1}), store)(FixedTrial(MIDDLE))


def length(config: SweepConfig, store: Path) -> float:
    """Return the seconds of a full training while two run at once and nothing else."""
    with multiprocessing.get_context("spawn").Pool(SLOTS) as pool:
        return statistics.fmean(pool.starmap(timed, [(config, store)] * 3 * SLOTS, chunksize=1)[SLOTS:])


def timed(config: SweepConfig, store: Path) -> float:
    """Return the seconds of a training with the values of `MIDDLE`."""
    objective, started = Objective(config, store), time.perf_counter()
    objective(FixedTrial(MIDDLE))
    return time.perf_counter() - started


def best_by(finds: Finds, seconds: float) -> float:
    """Return the best score by some time, 0 before the first."""
    return max((value for at, value in finds if at <= seconds), default=0.0)


def lead(ours: Sequence[Searched], theirs: Sequence[Searched], times: Sequence[float]) -> Lead:
    """Return by how many points ours is ahead, on average over some times, paired by repeat."""
    scores = [[statistics.fmean(best_by(one.finds, t) for t in times) for one in side] for side in (ours, theirs)]
    return lead_of(*scores)


def extent(counts: Sequence[int]) -> str:
    """Return the least, the most and the median."""
    return f"{min(counts)} … {max(counts)}, median {statistics.median(counts):g}"


COUNTED: dict[str, Callable[[list[Searched]], list[int]]] = {
    "trials started per repeat": lambda repeats: [one.begun for one in repeats],
    "trials trained to their end per repeat": lambda repeats: [len(one.finds) for one in repeats],
    "epochs trained in the time per repeat": lambda repeats: [one.epochs for one in repeats],
}


def measure(name: str, problem: Problem, path: Path, compared: Sequence[str] = SIDES) -> Result:
    """Return the scores of the sides, at the end and before; each search is kept in the file `path`.

    The first of the `compared` sides is ours.
    """
    os.environ.setdefault("GLIBC_TUNABLES", PAGES)  # as in a sweep's workers
    training, found = kept(path)
    with closing(EvidenceFile(path)) as journal, tempfile.TemporaryDirectory() as scratch:
        store = Path(scratch)
        first = sweep(problem, seed=0, seconds=1.0)
        teach(first, store)
        if training is None:
            training = length(first, store)
            journal.append("length", training=training)
        seconds = problem.trainings * training / SLOTS
        progress(f"a training takes {training:.1f} s, a search {seconds:.0f} s")
        for seed in seeds_of(problem):
            config = sweep(problem, seed, seconds)
            for side in (
                *compared[seed % len(compared) :],
                *compared[: seed % len(compared)],
            ):  # each side is first equally often
                if (side, seed) not in found:
                    found[side, seed] = searched(side, config, store, seconds)
                    journal.append("searched", side=side, seed=seed, **found[side, seed]._asdict())
            ends = {side: f"{best_by(found[side, seed].finds, seconds):.4f}" for side in compared}
            progress(f"repeat {seed - FIRST_SEED + 1} of {problem.repeats}: {ends}")
    return summary(name, problem, training, found, compared)


def seeds_of(problem: Problem) -> range:
    """Return the seeds of the repeats."""
    return range(FIRST_SEED, FIRST_SEED + problem.repeats)


def kept(path: Path) -> tuple[float | None, dict[tuple[str, int], Searched]]:
    """Return what a file has: the seconds of a full training, None without, and each search by side and seed."""
    known = list(read_evidence(path))
    found = {
        (event["side"], event["seed"]): Searched(event["finds"], event["epochs"], event["begun"])
        for event in known
        if event["event"] == "searched"
    }
    return next((event["training"] for event in known if event["event"] == "length"), None), found


def summary(
    name: str,
    problem: Problem,
    training: float,
    found: Mapping[tuple[str, int], Searched],
    compared: Sequence[str] = SIDES,
) -> Result:
    """Return the result of searches by side and seed; a full training takes `training` seconds."""
    seconds = problem.trainings * training / SLOTS
    sides = {side: [found[side, seed] for seed in seeds_of(problem)] for side in compared}
    return Result(
        name=name,
        unit="best validation accuracy",
        ratios={f"points_ahead_of_{side}": lead(sides[OURS], sides[side], [seconds]).mean for side in compared[1:]},
        measured={side: spread([best_by(one.finds, seconds) for one in repeats]) for side, repeats in sides.items()},
        notes={"a search (s)": round(seconds), "a training (s)": round(training, 1), **leads(sides, seconds)}
        | {note: {side: extent(count(repeats)) for side, repeats in sides.items()} for note, count in COUNTED.items()},
    )


def leads(sides: Mapping[str, Sequence[Searched]], seconds: float) -> dict[str, str]:
    """Return our leads: at the end, on average over the second half of the time, and at shares of it."""
    later = [seconds * (0.5 + 0.5 * point / POINTS) for point in range(1, POINTS + 1)]
    times = {"at the end": [seconds], "in the second half": later}
    times |= {f"at {share:.0%} of the time": [share * seconds] for share in SHARES}
    return {
        f"ahead of {side} {when}": str(lead(sides[OURS], sides[side], those))
        for when, those in times.items()
        for side in sides
        if side != OURS
    }


def main(name: str, problem: Problem, compared: Sequence[str] = SIDES) -> None:
    """Run from the command line."""
    command = parser(name)
    command.add_argument("--folder", type=Path, help="where the searches are kept, to continue from there")
    options = command.parse_args()
    given = f" --folder {options.folder}" if options.folder else ""
    with tempfile.TemporaryDirectory() as scratch:
        kept = (options.folder or Path(scratch)) / (f"{name}-quick.jsonl" if options.quick else f"{name}.jsonl")
        present(name, options, lambda: measure(name, QUICK if options.quick else problem, kept, compared), given=given)


if __name__ == "__main__":
    main("search", FEW)
