"""The driver's work a trial, after 2,000 trials beside after 100: real studies, journal and MLflow, instant trials.

The objective answers at once, so that all the time that passes is the driver's: handing a trial out, taking its
epochs, telling Optuna's database, the journal and MLflow. Nothing is trained, and Ray is left out.
"""

import math
import random
import resource
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from benchmarks.common import Result, Spread, main, progress, spread
from supersnn.config import parse
from tune.arms import resolve
from tune.budget import Budget
from tune.journal import Journal
from tune.search import Job, Report, Search
from tune.store import Store
from tune.studies import Studies, open_storage
from tune.sweep import SweepConfig
from tune.tracking import tracker
from tune.tracking.tracker import Tracker
from tune.versions import versions

WINDOW = 50
"""Trials that are timed together; MLflow has been told of all of them before the clock is stopped."""
AT_ONCE = 2


def sweep(trials: int) -> SweepConfig:
    """Return a sweep of one arm of so many trials, with what a usual one searches."""
    plain = {
        "name": "scale",
        "dataset": {"name": "digits"},
        "student": {"architecture": "resnet8"},
        "train": {"epochs": 12},
        "arms": {"heterogeneous": {"teachers": ["vgg8", "wrn16_2"]}},
        "space": {
            "neuron.threshold": "default",
            "neuron.decay": "default",
            "optimizer.lr": "default",
            "loss.relation.weight": "default",
        },
        "search": {"trials": trials, "sampler": "tpe", "scheduler": "asha"},
    }
    return parse(SweepConfig, plain, "scale")


def instant(job: Job) -> Iterator[Report]:
    """Yield what a trial would report, without training: it learns the better, the closer its rate is to 0.05."""
    rate, epochs = job.config["optimizer"]["lr"], job.config["train"]["epochs"]
    noise = random.Random(job.key)
    final = 0.9 - 0.2 * abs(math.log10(rate / 0.05))
    for epoch in range(1, epochs + 1):
        accuracy = final * (1 - math.exp(-epoch / 3)) + noise.gauss(0, 0.01)
        metrics = dict.fromkeys(METRICS, 0.5) | {"val/accuracy": accuracy}
        yield Report(epoch, metrics, "finished" if epoch == epochs else None)


METRICS = (
    "train/loss",
    "loss/label",
    "loss/relation",
    "loss/relation_weighted",
    "val/loss",
    "spikes/rate",
    "ops/synaptic",
    "ops/mac",
    "energy/nj",
    "time/epoch_s",
)
"""What a training reports of an epoch besides its accuracy."""


def drive(search: Search, trials: int) -> None:
    """Run so many trials to their ends, `AT_ONCE` side by side, an epoch of each in turn."""
    running: deque[tuple[Job, Iterator[Report]]] = deque()
    ended = 0
    while ended < trials:
        while len(running) < min(AT_ONCE, trials - ended) and (job := search.next_job()) is not None:
            running.append((job, instant(job)))
        job, reports = running.popleft()
        if search.reported(job.key, next(reports)):
            ended += 1
        else:
            running.append((job, reports))


def wait_told(following: Tracker) -> None:
    """Return when MLflow has been told all that is in the journal."""
    while following.pending():
        time.sleep(0.005)


def measure(quick: bool) -> Result:
    """Return the driver's seconds a trial as the trials of an arm add up."""
    trials = 200 if quick else 2000
    config = sweep(trials)
    tracker.INTERVAL = 0.02  # the trials are instant, so the journal must be looked at more often than every 2 s
    with tempfile.TemporaryDirectory() as scratch:
        store = Store(Path(scratch))
        folder = store.sweep(config.name)
        journal = Journal(folder.journal)
        studies = Studies(config, resolve(config), open_storage(store.optuna_url), "scale")
        budget = Budget(config, studies, folder.path, [])
        search = Search(studies, journal, budget, folder.path, store.path, "scale", (0,), {})
        journal.append("sweep", driver="scale", code="", versions=versions(), resumed=False)
        following = tracker.start(folder, store, config)
        following.wait_connected()
        walls, searches = [], []
        for window in range(trials // WINDOW):
            started = time.perf_counter()
            drive(search, WINDOW)
            searches.append((time.perf_counter() - started) / WINDOW)
            wait_told(following)
            walls.append((time.perf_counter() - started) / WINDOW)
            if (window + 1) % 4 == 0:
                progress(f"{(window + 1) * WINDOW} trials: {1000 * walls[-1]:.0f} ms a trial")
        following.close()
        journal.close()
    near = max(1, round(100 / WINDOW))
    first, last = spread(walls[:near]), spread(walls[-near:])
    return Result(
        name="scale",
        unit="s a trial",
        ratios={"ratio": last.median / first.median},
        measured={
            f"trials up to {near * WINDOW}": first,
            f"trials up to {trials}": last,
            f"trials up to {near * WINDOW}, without MLflow's part": spread(searches[:near]),
            f"trials up to {trials}, without MLflow's part": spread(searches[-near:]),
        },
        notes={
            "memory of the driver (GB)": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
            "ms a trial by windows": [round(1000 * seconds) for seconds in walls],
        },
    )


if __name__ == "__main__":
    main("scale", measure)
