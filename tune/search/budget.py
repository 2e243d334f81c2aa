"""What may end a search before every arm has had its trials: hours, GPU-hours, stagnation, a full disk."""

import shutil
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tune.description.sweep import SweepConfig
from tune.search.studies import Studies

LOWEST_FREE = 256 * 2**20
"""Bytes that must be free on the store's disk before another trial begins."""


class Budget:
    """What has been spent, by this driver and those before it; time in which no driver ran is not counted."""

    def __init__(self, sweep: SweepConfig, studies: Studies, folder: Path, events: Iterable[Mapping[str, Any]]) -> None:
        self._sweep, self._studies, self._folder = sweep, studies, folder
        self._began = time.monotonic()
        self._seconds_before = 0.0
        self._gpu_seconds = 0.0
        began = last = None
        for event in events:
            if event["event"] == "sweep":
                self._seconds_before += (last - began) if began is not None and last is not None else 0.0
                began = event["time"]
            last = event["time"]
            if event["event"] == "epoch":
                self.spend(event["metrics"])
        if began is not None and last is not None:
            self._seconds_before += last - began

    def spend(self, metrics: Mapping[str, float]) -> None:
        """Add an epoch's cost."""
        self._gpu_seconds += self._sweep.resources.gpus * metrics.get("time/epoch_s", 0.0)

    def exhausted(self) -> str | None:
        """Return why no further trial may begin, None while one may."""
        search = self._sweep.search
        hours = (self._seconds_before + time.monotonic() - self._began) / 3600
        if search.hours is not None and hours >= search.hours:
            return f"search.hours: {hours:.2f} of {search.hours:g} are spent"
        if search.gpu_hours is not None and self._gpu_seconds / 3600 >= search.gpu_hours:
            return f"search.gpu_hours: {self._gpu_seconds / 3600:.2f} of {search.gpu_hours:g} are spent"
        if self._studies.stagnant():
            return f"search.stagnation: nothing better in {search.stagnation} trials of any arm"
        return None

    def disk_full(self) -> str | None:
        """Return a complaint where the store's disk has too little room for another trial."""
        free = shutil.disk_usage(self._folder).free
        if free >= LOWEST_FREE:
            return None
        return (
            f"{self._folder}: only {free / 2**20:.0f} MB are free; make room, then give the same command again: "
            "nothing is lost"
        )
