"""Limits that end a search before every arm has had its trials: hours, GPU-hours, a full disk."""

import errno
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from supersnn.records.state import SweepState
from tune.description.sweep import SweepConfig

LOWEST_FREE = 256 * 2**20
"""Bytes that must be free on the store's disk before another trial starts."""
_PROBE = 4 * 2**20
"""Bytes of the file that is written to see whether there is room: quotas are told by no other means."""


class Budget:
    """What the sweep's drivers have spent so far, by its state.

    Time in which no driver ran, or all that was left was paused, is not counted.

    Attributes:
        sweep: as it is now, see `adopt`.
    """

    def __init__(self, sweep: SweepConfig, folder: Path, state: SweepState) -> None:
        self.sweep, self._folder, self._state = sweep, folder, state
        self._spent_before = state.driver_seconds()
        self._started = time.monotonic()
        self._held: float | None = None

    def adopt(self, sweep: SweepConfig) -> None:
        """Go on with other limits."""
        self.sweep = sweep

    @contextmanager
    def held(self) -> Iterator[None]:
        """Count no time within this context."""
        self._held = time.monotonic()
        try:
            yield
        finally:
            self._started += time.monotonic() - self._held
            self._held = None

    def spent(self) -> str | None:
        """Return which budget of hours is spent, so that no further trial may begin; None while none is."""
        search = self.sweep.search
        now = time.monotonic() if self._held is None else self._held
        hours = (self._spent_before + now - self._started) / 3600
        unknown = self.sweep.resources.gpus_taken * self._state.costs.unknown / 3600
        gpu_hours = self._state.costs.gpu_hours() + unknown
        if search.hours is not None and hours >= search.hours:
            return f"search.hours: {hours:.2f} of {search.hours:g} are spent"
        if search.gpu_hours is not None and gpu_hours >= search.gpu_hours:
            return f"search.gpu_hours: {gpu_hours:.2f} of {search.gpu_hours:g} are spent"
        return None

    def disk_full(self) -> str | None:
        """Return an error text where the store's disk has too little free space for another trial."""
        free = shutil.disk_usage(self._folder).free
        if free >= LOWEST_FREE:
            return None
        return (
            f"{self._folder}: only {free / 2**20:.0f} MB are free; free some space and rerun the same command: "
            "nothing is lost"
        )

    def store_full(self) -> bool:
        """Return whether the store's disk has no room for a file."""
        if self.disk_full():
            return True
        probe = self._folder / f".room-{uuid.uuid4().hex}"
        try:
            probe.write_bytes(bytes(_PROBE))
        except OSError as error:
            return error.errno in (errno.ENOSPC, errno.EDQUOT)
        finally:
            with suppress(OSError):
                probe.unlink()
        return False
