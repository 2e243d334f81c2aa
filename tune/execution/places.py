"""How many trainings run at once on one device: a given number, or as many as memory holds and throughput rewards."""

import time
from collections.abc import Callable
from typing import Literal

import torch

MOST = 16
"""Trainings that `auto` tries at most."""
REWARD = 1.1
"""How much more epochs in a second twice as many trainings must bring."""
FULL = 0.85
"""The share of a GPU's memory that is filled at most."""


class Places:
    """The number of places, which out-of-memory errors reduce.

    With ``auto`` it begins at 1 and doubles as long as a GPU's memory allows, and the epochs in a second, counted while
    all places are taken, rise by a tenth. Trials of different sizes make that a rough measure. On CPUs it stays at 1:
    trainings there gain nothing from sharing a process.
    """

    def __init__(
        self,
        pack: int | Literal["auto"],
        device: str,
        clock: Callable[[], float] = time.monotonic,
        memory: Callable[[], float] | None = None,
    ) -> None:
        """Begin with the first number of places.

        Args:
            pack: the number of places, or ``auto``.
            device: that they share, ``cpu`` or ``cuda``.
            clock: in seconds.
            memory: the share of the device's memory that this process has taken; by default as torch says.
        """
        self.count = pack if pack != "auto" else 1
        self._growing = pack == "auto" and device == "cuda"
        self._clock, self._memory = clock, memory or _memory_taken
        self._rate = 0.0
        self._epochs, self._since = -1, 0.0

    def reported(self, epoch: int, running: int) -> None:
        """Note that one of so many running trainings has ended an epoch."""
        del epoch
        if not self._growing or running < self.count:
            return
        if self._epochs < 0:  # the first epoch with these places: steps were captured in it
            self._epochs, self._since = 0, self._clock()
            return
        self._epochs += 1
        if self._epochs >= 2 * self.count:
            self._decide(self._epochs / max(self._clock() - self._since, 1e-9))

    def shrink(self, to: int) -> None:
        """Use fewer places from now on: so many trainings fit, one more does not."""
        self.count, self._growing = max(1, min(self.count, to)), False

    def _decide(self, rate: float) -> None:
        if rate < REWARD * self._rate:
            self.count, self._growing = max(1, self.count // 2), False
            return
        self._rate, self._epochs = rate, -1
        if 2 * self._memory() > FULL or 2 * self.count > MOST:
            self._growing = False
        else:
            self.count *= 2


def _memory_taken() -> float:
    """Return the share of the GPU's memory that is taken, by other processes too."""
    free, total = torch.cuda.mem_get_info()
    return 1 - free / total
