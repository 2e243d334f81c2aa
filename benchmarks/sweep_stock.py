"""The wall time of the same equal trials on two slots: a sweep, and stock Ray Tune with MLflow and without tracking.

Each is measured from the command to the end of its last trial, in one sitting and in turns; the bare trainings are
those of `benchmarks.sweep`, half of them before and half after.
"""

import math
import os
import tempfile
from pathlib import Path

from benchmarks.common import Result, main, progress, spread
from benchmarks.stock import run_stock
from benchmarks.sweep import SECONDS, SLOTS, bare, equal_trials, run_sweep
from tune.description.sweep import SweepConfig
from tune.execution.executor import PAGES

TRIALS, REPEATS = 8, 3
OURS, WITH_MLFLOW, UNTRACKED = "supersnn", "stock Ray Tune with MLflow", "stock Ray Tune without tracking"


def wall_time(side: str, sweep: SweepConfig) -> float:
    """Return the seconds from a side's command to the end of its last trial."""
    with tempfile.TemporaryDirectory() as scratch:
        if side == OURS:
            started, events = run_sweep(sweep, Path(scratch))
        else:
            started, events = run_stock(sweep, Path(scratch), asha=False, tracking=side == WITH_MLFLOW)
    ends = [event["time"] for event in events if event["event"] == "end"]
    if len(ends) != sweep.search.trials:
        raise RuntimeError(f"{side}: {len(ends)} of {sweep.search.trials} trials have ended")
    return max(ends) - started


def measure(quick: bool) -> Result:
    """Return the wall times of the sides."""
    os.environ.setdefault("GLIBC_TUNABLES", PAGES)  # as in a sweep's workers
    trials, images, repeats = (4, 300, 1) if quick else (TRIALS, None, REPEATS)
    tried = 1 if quick else 4
    length = max(bare(equal_trials(trials, tried, images), SLOTS)) / tried
    sweep = equal_trials(trials, 1 if quick else math.ceil(SECONDS / length), images)
    before = bare(sweep, trials // 2)
    sides = (OURS, WITH_MLFLOW, UNTRACKED)
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for repeat in range(repeats):
        for side in (*sides[repeat % 3 :], *sides[: repeat % 3]):
            seconds[side].append(wall_time(side, sweep))
            progress(f"{side}: {seconds[side][-1]:.1f} s")
    after = bare(sweep, trials - trials // 2)
    ideal = sum(before + after) / SLOTS
    medians = {side: spread(found).median for side, found in seconds.items()}
    return Result(
        name="sweep_stock",
        unit="s",
        ratios={f"{side} / ideal": median / ideal for side, median in medians.items()}
        | {f"ours / {side}": medians[OURS] / medians[side] for side in sides[1:]},
        measured={side: spread(found) for side, found in seconds.items()} | {"a bare training": spread(before + after)},
        notes={"bare trainings, sum / slots (s)": round(ideal, 1), "trials": trials, "epochs": sweep.train.epochs},
    )


if __name__ == "__main__":
    main("sweep_stock", measure)
