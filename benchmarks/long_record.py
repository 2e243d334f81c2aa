"""The record of a very long sweep (20,000 trials of 30 epochs, synthetic): what opening it and `status` cost.

Each figure is from a fresh process; memory is what the process grows by. `benchmarks.scale` reports them.
"""

import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks.common import progress
from benchmarks.instant_trials import METRICS, sweep
from supersnn.config_model import to_yaml
from supersnn.nested import flatten
from supersnn.records.events import SCHEMA, EpochReported, SweepStarted, TrialEnded, TrialStarted
from supersnn.records.journal import Journal
from tune.description.arms import resolve
from tune.store import Store, SweepFolder

REPEATS = 3

OPEN = """
import json, sys, time
from pathlib import Path
import resource
from tune.store import SweepFolder
from tune.sweep_record import SweepRecord
import tune.sweep_driver, tune.tracking.tracker

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

before, started = resident(), time.perf_counter()
record = SweepRecord(SweepFolder(Path(sys.argv[1])), {})
seconds, after = time.perf_counter() - started, resident()
trials = sum(1 for _ in record.state.trials())
if "--save" in sys.argv:
    record.open()
print(json.dumps({"seconds": seconds, "bytes": after - before, "trials": trials}))
"""


def write_record(folder: SweepFolder, trials: int, epochs: int) -> None:
    """Write the description and the journal of a sweep that was interrupted after so many trials."""
    config = sweep(trials)
    folder.path.mkdir(parents=True)
    folder.config.write_text(to_yaml(config), encoding="utf-8")
    (arm,) = resolve(config).values()
    draw, journal, at = random.Random(0), Journal(folder.journal), 1e9
    journal.append(SweepStarted(time=at, driver="long", code="", schema_version=SCHEMA))
    for number in range(trials):
        params = {key: parameter.at(draw.random()) for key, parameter in arm.parameters.items()}
        flat = flatten(arm.config(params)) | {"train.epochs": epochs}
        journal.append(TrialStarted(time=at, arm=arm.name, trial=number, config=flat, params=params))
        value = draw.random()
        for epoch in range(1, epochs + 1):
            at += 0.1
            metrics = {key: draw.random() for key in METRICS} | {"val/accuracy": value}
            journal.append(EpochReported(time=at, arm=arm.name, trial=number, epoch=epoch, metrics=metrics))
        end = TrialEnded(time=at, arm=arm.name, trial=number, end="finished", epochs=epochs, value=value, feasible=True)
        journal.append(end)
    journal.close()


def opened(folder: SweepFolder, *options: str) -> dict[str, float]:
    """Open the record in a fresh process; return its seconds, and the bytes that the process grew by."""
    command = [sys.executable, "-c", OPEN, str(folder.path), *options]
    return dict(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))


def status_seconds(store: Path, name: str) -> float:
    """Return the seconds of `supersnn status`."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "supersnn_cli", "status", name, "--store", str(store), "--json"]
    subprocess.run(command, capture_output=True, check=True)
    return time.perf_counter() - started


def figures(quick: bool) -> dict[str, float]:
    """Return seconds and memory over such a record, medians of some repeats."""
    trials, epochs = (500, 10) if quick else (20_000, 30)
    with tempfile.TemporaryDirectory() as scratch:
        store = Store(Path(scratch))
        folder = store.sweep("scale")
        write_record(folder, trials, epochs)
        progress(f"a journal of {folder.journal.stat().st_size / 1e6:.0f} MB")
        cold = [opened(folder) for _ in range(REPEATS)]
        opened(folder, "--save")
        warm = [opened(folder) for _ in range(REPEATS)]
        status = [status_seconds(store.path, "scale") for _ in range(REPEATS)]
    name = f"{trials:,} trials of {epochs} epochs"
    return {
        f"{name}: opening the record from its snapshot (s)": round(median(one["seconds"] for one in warm), 2),
        f"{name}: opening it from the journal (s)": round(median(one["seconds"] for one in cold), 1),
        f"{name}: memory of its state (MB)": round(max(one["bytes"] for one in [*cold, *warm]) / 1e6),
        f"{name}: supersnn status (s)": round(median(status), 2),
    }
