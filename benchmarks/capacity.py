"""How far one driver reaches: a sweep on 10 to 1,000 GPUs, simulated from what the driver's steps cost. No Ray here.

Each slot trains an epoch and waits until the driver, with Ray Tune in the same thread, has taken its report.
Checkpoints are written to the shared store beside the training, and waited for at rungs and ends. Driver, tracking and
store serve one request after another. `--check STORE SWEEP` simulates a sweep that has been run,
with its own epochs and slots, and prints the seconds of both. `--measure N` times the driver's steps over N trials, in
the database that SUPERSNN_OPTUNA_STORAGE names. `--predict N` simulates a driver that N instant trials keep busy, from
the costs of another one with N/4, and prints its seconds beside those that it really takes.
"""

import argparse
import heapq
import itertools
import json
import math
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.table import Table

from benchmarks.evidence_file import read_evidence
from benchmarks.instant_trials import instant, sweep
from tune.description.searches import planned
from tune.search.budget import Budget
from tune.search.search import Search
from tune.search.studies import Studies, open_storage
from tune.store import Store
from tune.sweep_record import SweepRecord

R = TypeVar("R")
ARMS = 3
"""How many arms the trials are shared by, each with a study of its own."""


@dataclass(frozen=True)
class Costs:
    """What one step costs in seconds, and the bytes a second of the store.

    ask, ask_per_trial: handing a trial out, and what that grows by with each earlier trial of its arm.
    report, finish: the driver's work an epoch and at a trial's end. tune_trial, tune_result: Ray Tune's own, in the
    driver's process, a trial and an epoch. tracked: MLflow's an epoch. actor: a slot's process from its start to its
    first epoch. start: a further trial in it. checkpoint_every: between two checkpoints of a trial (0: each epoch is
    waited for). request: one of an object store. The driver's are those of one run of `--measure 500`;
    `docs/scaling.md` says where the rest is from.
    """

    ask: float = 0.018
    ask_per_trial: float = 1.27e-5
    report: float = 0.0025
    finish: float = 0.0102
    tune_trial: float = 0.0133
    tune_result: float = 0.0015
    tracked: float = 0.024
    actor: float = 8.0
    start: float = 0.08
    checkpoint_every: float = 30.0
    request: float = 0.03
    bandwidth: float = 1.25e9


UPLOAD = 5
"""The requests of a checkpoint in an object store: content, manifest, the earlier content, and two for the owner."""


@dataclass(frozen=True)
class Load:
    """A sweep: trials, slots, the seconds of an epoch, the bytes of a checkpoint, the epochs of each trial, rungs."""

    trials: int
    slots: int
    epoch: float
    checkpoint: float
    epochs: Callable[[int], int]
    rungs: tuple[int, ...] = ()


@dataclass(frozen=True)
class Reached:
    """What came of it: seconds in all, and the share of them in which slots, driver, tracking and store were busy."""

    seconds: float
    slots: float
    driver: float
    tracking: float
    store: float

    @property
    def bottleneck(self) -> str:
        """What is busiest beside the slots, where that is more than half of the time."""
        name, share = max(
            (("driver", self.driver), ("MLflow", self.tracking), ("store", self.store)), key=lambda x: x[1]
        )
        return name if share > 0.5 else "none"


class Server:
    """Serves one request after another, in the order in which they come."""

    def __init__(self) -> None:
        self.free = self.busy = 0.0

    def serve(self, at: float, seconds: float) -> float:
        """Return when a request that comes at a time has been served."""
        self.free = max(at, self.free) + seconds
        self.busy += seconds
        return self.free


def simulate(load: Load, costs: Costs) -> Reached:
    """Run a sweep in simulated time, event by event: a slot's next epoch, or its report reaching the driver."""
    driver, tracking, store = Server(), Server(), Server()
    suggested, trained, last = 0, 0.0, 0.0
    order = itertools.count()
    every = max(1, math.ceil(costs.checkpoint_every / load.epoch)) if load.epoch else 1
    # The first trials start at once and then wait for their slots' processes.
    events: list[tuple[float, int, str, int, int]] = [(0.0, next(order), "ask", 0, 0) for _ in range(load.slots)]
    while events:
        at, _, kind, done, left = heapq.heappop(events)
        last = max(last, at)
        if kind == "ask":
            if suggested == load.trials:
                continue
            asked = costs.ask + costs.tune_trial + costs.ask_per_trial * suggested / ARMS
            begins = driver.serve(at, asked) + (costs.start if suggested >= load.slots else costs.actor)
            heapq.heappush(events, (begins, next(order), "train", 0, load.epochs(suggested)))
            suggested += 1
        elif kind == "train":
            trained += load.epoch
            heapq.heappush(events, (at + load.epoch, next(order), "save", done + 1, left - 1))
        elif kind == "save":
            waits = not left or done in load.rungs or not costs.checkpoint_every
            if waits or done % every == 0:
                written = store.serve(at, load.checkpoint / costs.bandwidth)
                at = written + UPLOAD * costs.request if waits else at
            heapq.heappush(events, (at, next(order), "report", done, left))
        else:
            taken = driver.serve(at, costs.report + costs.tune_result + (0.0 if left else costs.finish))
            tracking.serve(taken, costs.tracked)
            heapq.heappush(events, (taken, next(order), "train" if left else "ask", done, left))
    seconds = max(last, tracking.free)
    shares = (trained / (seconds * load.slots), *(server.busy / seconds for server in (driver, tracking, store)))
    return Reached(seconds, *shares)


def rungs_of(epochs: int) -> tuple[int, ...]:
    """Return the epochs after which trials are compared: each third."""
    return max(1, epochs // 3), max(1, 2 * epochs // 3)


def halving(epochs: int, seed: int = 0) -> Callable[[int], int]:
    """Return the epochs of each trial under successive halving: half stop at each third."""
    dice, rungs = random.Random(seed), rungs_of(epochs)

    def of(_trial: int) -> int:
        return next((rung for rung in rungs if dice.random() > 0.5), epochs)

    return of


def scenarios(costs: Costs) -> Iterator[tuple[str, Load, Reached]]:
    """Yield small and large students on more and more GPUs, about 100 trials a GPU."""
    students = (("small: 10 s an epoch, 1 MB", 10.0, 1e6, 30), ("large: 120 s an epoch, 90 MB", 120.0, 90e6, 100))
    for student, epoch, checkpoint, epochs in students:
        for slots in (10, 100, 300, 1000):
            load = Load(slots * 100, slots, epoch, checkpoint, halving(epochs), rungs_of(epochs))
            yield student, load, simulate(load, costs)


def check(store: Path, name: str) -> dict[str, float]:
    """Return the real and the simulated seconds of the search of a sweep that was run without a break, and its slots.

    Epochs, slots and the start of the processes are the sweep's own, so that only what the driver adds to them is put
    to the test; the store is taken to be infinitely fast.
    """
    events = list(read_evidence(Store(store).existing(name).journal))
    searched = [event for event in events if event["event"] in ("start", "epoch", "end")]
    slots = [event["event"] for event in searched].index("epoch")
    epochs = [event for event in searched if event["event"] == "epoch"]
    epoch = sum(event["metrics"]["time/epoch_s"] for event in epochs) / len(epochs)
    began = searched[0]["time"]
    actor = epochs[0]["time"] - began - epochs[0]["metrics"]["time/epoch_s"]
    lengths = [event["epochs"] for event in searched if event["event"] == "end"]
    load = Load(len(lengths), slots, epoch, 0.0, lengths.__getitem__)
    simulated = simulate(load, replace(Costs(), actor=actor, request=0.0)).seconds
    found = {"real": searched[-1]["time"] - began, "simulated": simulated}
    return {**found, "trials": load.trials, "slots": slots, "epoch_s": epoch, "actor_s": actor}


@dataclass(frozen=True)
class Driven:
    """What a driver's steps over some instant trials took in seconds, with the epochs of each trial."""

    asks: list[float]
    reports: list[float]
    ends: list[float]
    epochs: list[int]

    def seconds(self) -> float:
        """Return what they took together."""
        return sum(self.asks) + sum(self.reports) + sum(self.ends)

    def costs(self, usual: Callable[[list[float]], float]) -> dict[str, float]:
        """Return the fields of `Costs` that are the driver's; asks grow, the others are `usual`."""
        half = len(self.asks) // 2
        early, late = usual(self.asks[10:half]), usual(self.asks[half:])
        report = usual(self.reports)
        return {
            "ask": max(0.0, early - (late - early) / 2),
            "ask_per_trial": (late - early) / half,
            "report": report,
            "finish": usual(self.ends) - report,
        }


def run_instant_trials(trials: int) -> Driven:
    """Time the driver's steps over so many instant trials of one arm, one after another."""
    driven = Driven([], [], [], [])
    with tempfile.TemporaryDirectory() as scratch:
        store, config = Store(Path(scratch)), sweep(trials)
        folder = store.sweep(config.name)
        folder.path.mkdir(parents=True)
        studies = Studies(config, planned(config), open_storage(store.optuna_url))
        record = SweepRecord(folder, {})
        budget = Budget(config, folder.path, record.state)
        record.open()
        with closing(record):
            search = Search(studies, record, budget, folder.path, store.storage, "capacity")
            while (timed := _timed(search.next_job))[1] is not None:
                driven.asks.append(timed[0])
                for report in instant(timed[1]):
                    seconds, ended = _timed(partial(search.reported, timed[1].key, report))
                    (driven.ends if ended else driven.reports).append(seconds)
                    if ended:
                        driven.epochs.append(report.epoch)
                        break
    return driven


def measure(trials: int) -> dict[str, float]:
    """Return the median seconds of the driver's steps over so many instant trials, early ones beside late ones."""
    return run_instant_trials(trials).costs(statistics.median)


def predict(trials: int) -> dict[str, float]:
    """Return the seconds that a driver takes over so many instant trials, and those simulated from a quarter of them.

    The costs are means here, because a sum is predicted. The simulation has the real trials' epochs and no other cost.
    """
    known = run_instant_trials(trials // 4).costs(statistics.mean)
    known["ask_per_trial"] *= ARMS  # the trials here are all of one arm
    real = run_instant_trials(trials)
    load = Load(trials, 1, 0.0, 0.0, real.epochs.__getitem__)
    nothing = dict.fromkeys(("tune_trial", "tune_result", "tracked", "actor", "start", "request"), 0.0)
    simulated = simulate(load, Costs(**known, **nothing))
    return {"real": real.seconds(), "simulated": simulated.seconds, "trials": trials, "epochs": sum(real.epochs)}


def _timed(step: Callable[[], R]) -> tuple[float, R]:
    began = time.perf_counter()
    found = step()
    return time.perf_counter() - began, found


def table(rows: Sequence[tuple[str, Load, Reached]]) -> Table:
    """Return the scenarios for people."""
    drawn = Table(
        "student", "GPUs", "trials", "hours", "trials/h", "GPUs %", "driver %", "MLflow %", "store %", "limit"
    )
    for student, load, reached in rows:
        shares = (reached.slots, reached.driver, reached.tracking, reached.store)
        hours = reached.seconds / 3600
        counts = (str(load.slots), str(load.trials), f"{hours:.1f}", f"{load.trials / hours:.0f}")
        drawn.add_row(student, *counts, *(f"{share:.0%}" for share in shares), reached.bottleneck)
    return drawn


def main() -> None:
    """Print the scenarios, or the check against a real sweep."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.capacity", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--measure", type=int, metavar="N", help="time the driver's steps over N trials")
    parser.add_argument("--check", nargs=2, metavar=("STORE", "SWEEP"), help="compare with a sweep that has been run")
    parser.add_argument("--predict", type=int, metavar="N", help="predict the driver's time over N instant trials")
    for name, default in vars(Costs()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, default=default, help=f"[{default:g}]")
    options = vars(parser.parse_args())
    if options["check"]:
        print(json.dumps(check(Path(options["check"][0]), options["check"][1])))
        return
    if options["measure"]:
        print(json.dumps(measure(options["measure"])))
        return
    if options["predict"]:
        print(json.dumps(predict(options["predict"])))
        return
    rows = list(scenarios(Costs(**{name: options[name] for name in vars(Costs())})))
    if options["json"]:
        named = [{"student": s, "slots": x.slots, "trials": x.trials, **vars(r)} for s, x, r in rows]
        print(json.dumps({"name": "capacity", "costs": {n: options[n] for n in vars(Costs())}, "scenarios": named}))
    else:
        Console(width=120).print(table(rows))


if __name__ == "__main__":
    main()
