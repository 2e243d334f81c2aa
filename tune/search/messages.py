"""What driver and workers send each other about a trial: plain values only, so that any transport will do."""

from dataclasses import dataclass
from typing import Any

TRIALS = "trials"
"""The sweep's folder with a folder SEARCH/N for each trial; see `supersnn.records.searches`."""
OWNER, TRACEBACK, CHECKPOINTS = "owner", "traceback.txt", "checkpoint-*"
"""The names of files: a sweep's owner, the traceback of a first attempt, a trial's checkpoints."""
NO_SPACE = "No space left on device"
_FULL = (NO_SPACE, "database or disk is full", "Disk quota exceeded")


@dataclass(frozen=True)
class Job:
    """A trial to run.

    Attributes:
        key: the trial's name in its sweep, ``SEARCH/N``.
        config: its training as plain nested values, trained once for each of `seeds`.
        seeds: of its trainings, in order.
        folder: name of the trial's folder in the storage.
        sweep: name of the sweep's folder in the storage.
        store: address of the storage that driver and workers share (`storage.storage_at`).
        token: of the driver; a worker of another driver's may write nothing more.
        reported: how many epochs, over all seeds, the driver has already.
        save_every: seconds between two checkpoints; with 0 each epoch is in one before it is reported.
        rungs: epochs that are in a checkpoint before they are reported, whatever `save_every` is.
        attempt: how often the trial has been sent to a worker, this time included.
    """

    key: str
    config: dict[str, Any]
    seeds: tuple[int, ...]
    folder: str
    sweep: str
    store: str
    token: str
    reported: int = 0
    save_every: float = 0.0
    rungs: tuple[int, ...] = ()
    attempt: int = 1


@dataclass(frozen=True)
class Report:
    """One epoch of a trial. `ended` is None while the training goes on, then ``finished`` or ``failed:REASON``.

    `place` is where a worker runs, in the first report of each: its node, its process and its GPU.
    """

    epoch: int
    metrics: dict[str, float]
    ended: str | None
    place: dict[str, str] | None = None


def traceback_name(attempt: int) -> str:
    """Return the name of the file with an attempt's traceback, in its trial's folder: no two attempts have the same."""
    stem, dot, suffix = TRACEBACK.partition(".")
    return TRACEBACK if attempt <= 1 else f"{stem}-{attempt}{dot}{suffix}"


def disk_is_full(error: BaseException | None) -> bool:
    """Return whether an error, or one that it follows from, is that of a full disk; on Ray only the text is left."""
    while error is not None:
        if any(text in str(error) for text in _FULL):
            return True
        error = error.__cause__ or error.__context__
    return False
