"""Trials packed on one device: several trainings in one thread, in turns, each with a stream of its own on a GPU.

They share the process, its images, and the kernels; a trial that ends or fails frees its place, and takes no other with
it. A training that runs out of memory beside others is started again from its checkpoint when a place is free, and one
place less is used from then on; alone, it has failed. (An error that destroys the process's context on the GPU ends all
of its trainings, which continue from their checkpoints in another process.)
"""

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from traceback import clear_frames

import torch

from tune.execution.places import Places
from tune.execution.trial import Repeated
from tune.search.messages import Report

Parts = Iterator[Report | Repeated | None]
"""A trial under way: its reports, signs of epochs that it repeats, and None wherever another may take its turn."""


@dataclass(frozen=True)
class Failed:
    """A trial has raised an exception; its place is free. `start` begins it again from its last checkpoint."""

    error: Exception
    start: Callable[[], Parts]


class Pack:
    """Runs trials in turns; `places` says how many at once.

    held: the trials that get no turn for the time being; they keep their places.
    turn_of: the trial that has had the last turn, or has it now.
    """

    def __init__(self, places: Places, repeated: Callable[[str], None] = lambda _key: None) -> None:
        """Begin without trials.

        Args:
            places: see above.
            repeated: is called with a trial's key after each epoch that the trial repeats without a report.
        """
        self._places, self._repeated = places, repeated
        self._waiting: deque[tuple[str, Callable[[], Parts]]] = deque()
        self._running: deque[tuple[str, Callable[[], Parts], Parts]] = deque()
        self.held: set[str] = set()
        self.turn_of: str | None = None

    def __len__(self) -> int:
        return len(self._waiting) + len(self._running)

    @property
    def running(self) -> int:
        """How many trials have begun and not ended."""
        return len(self._running)

    @property
    def free(self) -> int:
        """How many trials could be started at once now."""
        return max(0, self._places.count - len(self))

    def ready(self) -> bool:
        """Return whether a trial could take a turn now."""
        place = bool(self._waiting) and len(self._running) < self._places.count
        return place or any(key not in self.held for key, _, _ in self._running)

    def waits(self, key: str) -> bool:
        """Return whether a trial waits for a place; any thread may ask."""
        return any(waiting == key for waiting, _ in tuple(self._waiting))

    def add(self, key: str, start: Callable[[], Parts]) -> None:
        """Take a trial in; `start` begins it, or begins it again from its last checkpoint."""
        self._waiting.append((key, start))

    def turn(self) -> tuple[str, Report | Failed] | None:
        """Let the next trial take its turn; return its report, or its failure, or None where there is neither."""
        while self._waiting and len(self._running) < self._places.count:
            key, start = self._waiting.popleft()
            self._running.append((key, start, start()))
        if not self.ready():
            return None
        while self._running[0][0] in self.held:
            self._running.rotate(-1)
        key, start, parts = self._running.popleft()
        self.turn_of = key
        try:
            report = next(parts)
        except StopIteration:
            return None
        except torch.OutOfMemoryError as error:
            _close(parts)
            del parts
            clear_frames(error.__traceback__)  # they hold the training's memory
            return self._out_of_memory(key, start, error)
        except Exception as error:
            _close(parts)
            clear_frames(error.__traceback__)
            return key, Failed(error, start)
        self._running.append((key, start, parts))
        if isinstance(report, Repeated):
            self._repeated(key)
        if not isinstance(report, Report):
            time.sleep(0)  # other threads of the process
            return None
        self._places.reported(report.epoch, len(self._running))
        return key, report

    def remove(self, key: str) -> None:
        """Stop a trial and free its place; one that has gone already is left alone."""
        self._waiting = deque(entry for entry in self._waiting if entry[0] != key)
        for entry in [entry for entry in self._running if entry[0] == key]:
            self._running.remove(entry)
            _close(entry[2])

    def close(self) -> None:
        """Stop all trials."""
        self._waiting.clear()
        for key in [entry[0] for entry in self._running]:
            self.remove(key)

    def _out_of_memory(
        self, key: str, start: Callable[[], Parts], error: Exception
    ) -> tuple[str, Report | Failed] | None:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if not self._running:
            return key, Failed(error, start)
        self._places.shrink(len(self._running))
        self._waiting.append((key, start))
        return None


def _close(parts: Parts) -> None:
    close = getattr(parts, "close", None)
    if close is not None:
        close()
