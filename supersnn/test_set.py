"""The only door to the test images: whoever opens it leaves a line in the ledger first."""

import fcntl
import json
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import torch

from supersnn.config import DatasetConfig
from supersnn.data import Images, fingerprint, images_at
from supersnn.sources.registry import read


def open_test(
    config: DatasetConfig, ledger: Path, purpose: str, device: torch.device | str = "cpu", weights: str | None = None
) -> Images:
    """Return the test images, on the device, after the ledger has taken note.

    The note is one JSON object a line, `{"time", "dataset", "purpose", "fingerprint", "count", "weights"}`, time in
    Unix seconds, on disk before this returns; lines are only ever appended. The images are to be normalised with
    the mean and std of the `TrainingData` of the same configuration (or of what it was exported as).

    Args:
        config: the data set.
        ledger: where the note goes.
        purpose: what the images are opened for.
        device: where they are wanted.
        weights: the SHA-256 of the file with the weights that are to be tested, where these are known. A test that was
            cut short goes on under the line that it has: the same weights, for the same purpose, need no second one.

    Raises:
        UserError: the images cannot be had.
        OSError: the ledger cannot be written; then nothing is returned.
    """
    raw = read(config, "test")
    images = images_at(raw, torch.arange(len(raw.labels)))
    note = {
        "dataset": config.name,
        "purpose": purpose,
        "fingerprint": fingerprint(raw.classes, images),
        "count": len(images),
        "weights": weights,
    }
    append(ledger, json.dumps({"time": time.time(), **note}) + "\n", known=None if weights is None else _says(note))
    return images.to(device)


def opened_at(ledger: Path, purpose: str, weights: str) -> float:
    """Return when the test images were opened for a purpose and some weights, in Unix seconds.

    Raises:
        ValueError: the ledger has no such line.
    """
    says = _says({"purpose": purpose, "weights": weights})
    for line in ledger.read_text(encoding="utf-8", errors="replace").splitlines():
        if says(line):
            return float(json.loads(line)["time"])
    raise ValueError(f"{ledger}: nothing was opened for {purpose!r} with these weights")


def _says(note: Mapping[str, object]) -> Callable[[str], bool]:
    """What tells whether a line, torn or whole, says all that a note does."""

    def says(line: str) -> bool:
        try:
            return note.items() <= json.loads(line).items()
        except (ValueError, AttributeError):
            return False

    return says


def append(path: Path, line: str, known: Callable[[str], bool] | None = None) -> None:
    """Add a line to a ledger in one write, after a torn one on a line of its own, and wait until it is on disk.

    One process at a time: on a network file system two that append at once would write to the same place. Nothing is
    added where the ledger has a line that is `known`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+", buffering=0) as file:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        if known is not None:
            file.seek(0)
            if any(map(known, file.read().decode(errors="replace").splitlines())):
                return
        file.seek(0, os.SEEK_END)
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                line = "\n" + line
        file.write(line.encode())
        os.fsync(file.fileno())
