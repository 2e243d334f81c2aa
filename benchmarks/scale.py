"""The driver's time per trial, after 2,000 trials and after 100: real studies, journal and MLflow, instant trials.

Trials return at once, so that all measured time is the driver's: suggesting a trial, taking its epochs, writing to
Optuna's database, the journal and MLflow. Nothing is trained, and Ray is not used. Beside it, what the record of a very
long sweep costs to open (`benchmarks/long_record.py`).
"""

import tempfile
import time
from collections import deque
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks import long_record
from benchmarks.common import Result, interleaved, main, peak_memory, progress, spread
from benchmarks.instant_trials import instant, sweep
from supersnn.records.events import SweepStarted
from tune.description.searches import planned
from tune.search.budget import Budget
from tune.search.messages import Job, Report
from tune.search.search import Search
from tune.search.studies import Studies, open_storage
from tune.store import Store
from tune.sweep_record import SweepRecord
from tune.tracking import tracker
from tune.versions import versions

WINDOW = 10
"""Trials that are timed together; MLflow has all of them before the clock is stopped."""
AT_ONCE = 2
"""Trials that are under way at any time."""


class Driver:
    """A sweep's driver, as `supersnn sweep` has one, with a store of its own."""

    def __init__(self, store: Store, trials: int) -> None:
        config = sweep(trials)
        folder = store.sweep(config.name)
        folder.path.mkdir(parents=True)
        self._record = SweepRecord(folder, {})
        studies = Studies(config, planned(config), open_storage(store.optuna_url))
        budget = Budget(config, folder.path, self._record.state)
        self._record.open()
        self._record.write(SweepStarted(driver="scale", code="", versions=versions()))
        self._search = Search(studies, self._record, budget, folder.path, store.storage, "scale")
        self._tracker = tracker.start(folder, store, config)
        self._tracker.wait_connected()
        self.ended = 0

    def run(self, trials: int) -> None:
        """Run so many trials to their ends, an epoch of each of `AT_ONCE` in turn, until MLflow has them."""
        running: deque[tuple[Job, Iterator[Report]]] = deque()
        goal = self.ended + trials
        while self.ended < goal:
            while len(running) < min(AT_ONCE, goal - self.ended) and (job := self._search.next_job()) is not None:
                running.append((job, instant(job)))
            job, reports = running.popleft()
            if self._search.reported(job.key, next(reports)):
                self.ended += 1
            else:
                running.append((job, reports))
        while self._tracker.pending():
            time.sleep(0.002)

    def close(self) -> None:
        """End the tracking."""
        self._record.close()
        self._tracker.close()


def measure(quick: bool) -> Result:
    """Return the driver's seconds a trial after few trials and after many, a handful of each in turn."""
    few, many, windows = (30, 100, 3) if quick else (100, 2000, 12)
    before = windows * WINDOW // 2
    tracker.INTERVAL = 0.02  # the trials are instant, so the journal must be looked at more often than every 2 s
    with tempfile.TemporaryDirectory() as scratch:
        young, old = (Driver(Store(Path(scratch) / name), many + before) for name in ("young", "old"))
        young.run(few - before)
        while (done := old.ended) < many - before:
            old.run(min(100, many - before - done))
            progress(f"{old.ended} trials")
        sides = {f"trials around {few}": young, f"trials around {many}": old}
        seconds = interleaved({side: partial(driver.run, WINDOW) for side, driver in sides.items()}, windows, 0)
        for driver in sides.values():
            driver.close()
    measured = {side: spread([window / WINDOW for window in times]) for side, times in seconds.items()}
    first, last = (measured[side].median for side in sides)
    return Result(
        name="scale",
        unit="s a trial",
        ratios={"ratio": last / first},
        measured=measured,
        notes={"memory of the driver (GB)": round(peak_memory() / 1024, 2), **long_record.figures(quick)},
    )


if __name__ == "__main__":
    main("scale", measure)
