"""The checkpoints of a trial: read by a worker that resumes it, written by a thread beside the training."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Self

from supersnn import checkpoint
from supersnn.epoch_report import EpochReport, Snapshot
from supersnn.files import DamagedFile
from tune.storage import Storage

LAST = 10.0
"""Seconds in which the trainings of a process that end may wait for what is being written, all of them together: a
storage that is away is tried for minutes, and a driver that is terminated has 20 seconds."""


class Patience:
    """How long the trainings of a process may still wait when they end; a write that ends gives it back."""

    def __init__(self, seconds: float = LAST) -> None:
        self._seconds = self._left = seconds

    def wait(self, pending: Future[None]) -> None:
        """Wait until something is written or has failed, or for as long as is left."""
        began = time.monotonic()
        try:
            pending.exception(timeout=self._left)
            self._left = self._seconds
        except TimeoutError:
            self._left = max(0.0, self._left - (time.monotonic() - began))


class CheckpointWriter:
    """Writes a training's snapshots in a thread, one at a time.

    A snapshot is due `every` seconds after the last one was taken. While one is being written none is taken, so that
    at most two are in memory: where the storage is slower than that, checkpoints are written as often as it allows.

    As a context it ends with the training: what is being written then is waited for, but not for long. It may be in the
    checkpoint later, or never, where the process ends before.
    """

    def __init__(self, write: Callable[[Snapshot], None], every: float, patience: Patience | None = None) -> None:
        """Write by a function, which is called in the thread.

        Args:
            write: writes a snapshot; what it raises is raised by the next call of `take`.
            every: seconds between two snapshots; with 0 each epoch is written before it is reported.
            patience: of the process, which all its writers share; one of its own by default.
        """
        self._write, self._every, self._patience = write, every, patience or Patience()
        self._taken = time.monotonic()
        self._pending: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _: TracebackType | None
    ) -> None:
        if self._pending is not None:
            self._patience.wait(self._pending)

    def take(self, report: EpochReport, *, wait: bool) -> None:
        """Take a snapshot of the training after an epoch, if one is due.

        Args:
            report: of the epoch; the training has not gone on since.
            wait: take one in any case, and return when it is in the checkpoint.

        Raises:
            Exception: what writing this snapshot, or the one before, has raised.
        """
        if wait or self._every == 0:
            self._finish()
            self._start(report)
            self._finish()
        elif self._pending is None or self._pending.done():
            self._finish()
            if time.monotonic() >= self._taken + self._every:
                self._start(report)

    def _start(self, report: EpochReport) -> None:
        self._taken = time.monotonic()
        self._pending = Future()
        work = (report.snapshot(), self._pending)
        threading.Thread(target=self._work, args=work, name="checkpoint", daemon=True).start()

    def _work(self, snapshot: Snapshot, pending: Future[None]) -> None:
        try:
            self._write(snapshot)
        except BaseException as error:
            pending.set_exception(error)
        else:
            pending.set_result(None)

    def _finish(self) -> None:
        """Wait until what is being written is written."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()


def checkpoint_path(folder: Path, seed: int) -> Path:
    """Return the path of a seed's checkpoint in a trial's folder."""
    return folder / f"checkpoint-{seed}.safetensors"


def stored_checkpoint(storage: Storage, name: str) -> Snapshot | None:
    """Return the snapshot of an earlier worker on any node, None without one; a damaged file is removed."""
    try:
        return checkpoint.load(storage.fetch(name))
    except FileNotFoundError:
        return None
    except DamagedFile:
        (storage.root / name).unlink(missing_ok=True)
        return None
