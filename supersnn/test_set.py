"""The only access to the test images; every access is first recorded in a ledger."""

import fcntl
import json
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch

from supersnn.config import DatasetConfig
from supersnn.data import Images, fingerprint, images_at
from supersnn.image_kind import ImageKind
from supersnn.sources.registry import read


def open_test(
    config: DatasetConfig,
    ledger: Path,
    purpose: str,
    device: torch.device | str = "cpu",
    weights: str | None = None,
    of: ImageKind | None = None,
) -> Images:
    """Return the test images, on the device, after appending an entry to the ledger.

    An entry is a line with a JSON object, `{"time", "dataset", "purpose", "fingerprint", "count", "weights"}`, time in
    Unix seconds; it is on disk before this function returns. Lines are never changed or removed. The images must be
    normalised with the mean and std of the `TrainingData` (or `Preprocessing`) of the same configuration.

    Args:
        config: the data set.
        ledger: file of the entries.
        purpose: reason for the access.
        device: of the returned images.
        weights: SHA-256 of the file with the weights that are tested, if known. An interrupted test continues under its
            entry: the same weights for the same purpose get no second one.
        of: the images that the tested network classifies. The data set must have the same classes, which are matched by
            name: the returned labels are positions in `of.classes`.

    Raises:
        UserError: the images cannot be read or downloaded, or are of another kind than `of`; the ledger has no entry.
        OSError: the ledger cannot be written; no images are returned.
    """
    raw = read(config, "test")
    images = images_at(raw, torch.arange(len(raw.labels)))
    if of is not None:
        labels = of.match(config.name, raw.classes, tuple(images.pixels.shape[1:]))[images.labels]
        images = replace(images, labels=labels)
    entry = {
        "dataset": config.name,
        "purpose": purpose,
        "fingerprint": fingerprint(raw.classes, images),
        "count": len(images),
        "weights": weights,
    }
    append(ledger, json.dumps({"time": time.time(), **entry}) + "\n", known=None if weights is None else _has(entry))
    return images.to(device)


def opened_at(ledger: Path, purpose: str, weights: str) -> float:
    """Return the time of the access to the test images for a purpose and weights, in Unix seconds.

    Raises:
        ValueError: the ledger has no such entry.
    """
    matches = _has({"purpose": purpose, "weights": weights})
    for line in ledger.read_text(encoding="utf-8", errors="replace").splitlines():
        if matches(line):
            with suppress(KeyError, TypeError, ValueError):  # a damaged line: another may be whole
                return float(json.loads(line)["time"])
    raise ValueError(f"{ledger}: no entry for {purpose!r} with these weights")


def _has(entry: Mapping[str, object]) -> Callable[[str], bool]:
    """Return a test of whether a line, possibly torn, has all values of an entry."""

    def matches(line: str) -> bool:
        try:
            return entry.items() <= json.loads(line).items()
        except (ValueError, AttributeError):
            return False

    return matches


def append(path: Path, line: str, known: Callable[[str], bool] | None = None) -> None:
    """Append a line to a ledger in one write, starting a new line after a torn one, and flush it to disk.

    A file lock admits one process at a time: on a network file system concurrent appends overwrite each other. Nothing
    is appended if the ledger has a line for which `known` is true.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+", buffering=0) as file:
        with suppress(OSError):  # the file system has no locks
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
