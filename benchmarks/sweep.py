"""The cost of orchestration: a sweep of equal trials on two slots, compared with the same trainings alone.

The sweep's time is measured from the command to the end of the search, with imports, Ray's start, Optuna, the journal
and MLflow. The bare trainings run in two plain processes, half of them before the sweep and half after, so that a
change of the machine's speed affects both sides. They have the huge pages that a sweep gives its workers.
"""

import math
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.common import Result, main, progress, spread
from benchmarks.evidence_file import read_evidence
from supersnn.config import TrainConfig
from supersnn.config_model import parse, to_yaml, with_values
from supersnn.data import training_data
from supersnn.training import train
from tune.description.arms import resolve
from tune.description.sweep import SweepConfig
from tune.execution.executor import PAGES
from tune.store import Store

SLOTS = 2
INTERRUPTED, GRACE = 130, 120
"""The exit code of an interrupted sweep, and the seconds that it may take to end."""
SECONDS = 18
"""The least time of a bare training."""


def run_sweep(sweep: SweepConfig, store: Path, seconds: float | None = None) -> tuple[float, list[dict[str, Any]]]:
    """Run `supersnn sweep` to its end, or interrupt it after some seconds.

    Returns:
        When the command was started, in Unix seconds, and the sweep's events.
    """
    file = store / "sweep.yaml"
    file.write_text(to_yaml(sweep), encoding="utf-8")
    started = time.time()
    command = [sys.executable, "-m", "supersnn_cli", "sweep", str(file), "--store", str(store)]
    output = store / "driver.log"
    with output.open("w", encoding="utf-8") as log:
        driver = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        driver.wait(seconds)
        expected = {0}
    except subprocess.TimeoutExpired:
        driver.send_signal(signal.SIGINT)
        driver.wait(GRACE)
        expected = {0, INTERRUPTED}
    finally:
        driver.kill()
    if driver.returncode not in expected:
        raise RuntimeError(f"{' '.join(command)} ended with {driver.returncode}: {output.read_text()[-2000:]}")
    return started, list(read_evidence(Store(store).sweep(sweep.name).journal))


def equal_trials(trials: int, epochs: int, images: int | None) -> SweepConfig:
    """Return a sweep of `trials` trials of equal cost."""
    plain = {
        "name": "equal",
        "dataset": {"name": "digits", "images": images},
        "student": {"architecture": "resnet20", "time_steps": 2},
        "train": {"epochs": epochs},
        "arms": {"direct": {}},
        "space": {"optimizer.lr": {"uniform": [0.02, 0.021]}},
        "search": {"trials": trials, "sampler": "tpe", "scheduler": "none"},
        "verify": {"seeds": 1},
        "resources": {"cpus": 1, "trials_at_once": SLOTS},
    }
    return parse(SweepConfig, plain, "benchmark")


def seconds_of(config: TrainConfig) -> float:
    """Return the seconds of one training whose images are in memory."""
    data = training_data(config.dataset)
    started = time.perf_counter()
    for _ in train(config, data):
        pass
    return time.perf_counter() - started


def bare(sweep: SweepConfig, count: int) -> list[float]:
    """Return the seconds of each of `count` bare trainings, `SLOTS` of them at a time in warm processes."""
    (arm,) = resolve(sweep).values()
    config = arm.config({"optimizer.lr": 0.02})
    with multiprocessing.get_context("spawn").Pool(SLOTS) as pool:
        pool.map(seconds_of, [with_values(config, {"train.epochs": 1})] * SLOTS, chunksize=1)
        return pool.map(seconds_of, [config] * count, chunksize=1)


def measure(quick: bool) -> Result:
    """Return the wall time of the sweep and of its trainings alone."""
    os.environ.setdefault("GLIBC_TUNABLES", PAGES)  # as in a sweep's workers
    trials, images = (4, 300) if quick else (24, None)
    tried = 1 if quick else 4
    length = max(bare(equal_trials(trials, tried, images), SLOTS)) / tried
    sweep = equal_trials(trials, 1 if quick else math.ceil(SECONDS / length), images)
    progress(f"{trials} trainings of {sweep.train.epochs} epochs of {length:.2f} s")
    before = bare(sweep, trials // 2)
    progress("the sweep")
    with tempfile.TemporaryDirectory() as scratch:
        given, events = run_sweep(sweep, Path(scratch))
    progress("the other half of the bare trainings")
    after = bare(sweep, trials - trials // 2)
    first = next(event["time"] for event in events if event["event"] == "start")
    last = max(event["time"] for event in events if event["event"] == "end")
    first_epoch = next(event["time"] for event in events if event["event"] == "epoch")
    seconds = before + after
    ideal = sum(seconds) / SLOTS
    return Result(
        name="sweep",
        unit="s",
        ratios={"ratio": (last - given) / ideal, "after_start": (last - first) / ideal},
        measured={"a bare training": spread(seconds)},
        notes={
            "the sweep to the end of its search (s)": round(last - given, 1),
            "of which before the first trial was suggested (s)": round(first - given, 1),
            "and before the first epoch was reported (s)": round(first_epoch - given, 1),
            "bare trainings, sum / slots (s)": round(ideal, 1),
            "a bare training before and after the sweep, medians (s)": [round(median(s), 2) for s in (before, after)],
            "trials": trials,
        },
    )


if __name__ == "__main__":
    main("sweep", measure)
