"""A sweep's journal as this floor reads it: few events as they stand, many epochs in columns, and their cache.

The cache holds what was already parsed, with the byte offset up to which that was, so that a journal which
grew is read on from there. It is never needed: whatever is wrong with it, the journal is read from its start.
"""

import hashlib
import json
import os
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

CACHE_STEP = 1 << 20
"""Bytes of unparsed journal from which the cache is written anew."""

EPOCH_KEYS = ("arm", "trial", "epoch", "time")


@dataclass(frozen=True)
class Journal:
    """What a journal says: `events` (all but epochs) in order, `epochs` in columns, `faults` of its lines."""

    events: list[dict[str, Any]]
    epochs: pd.DataFrame
    faults: list[str]


@dataclass
class _Columns:
    """Epochs by column; a metric that first appears late is NaN before."""

    arms: list[str] = field(default_factory=list)
    trials: "array[int]" = field(default_factory=lambda: array("q"))
    epochs: "array[int]" = field(default_factory=lambda: array("q"))
    times: "array[float]" = field(default_factory=lambda: array("d"))
    metrics: "dict[str, array[float]]" = field(default_factory=dict)

    def add(self, event: dict[str, Any]) -> None:
        values = {name: _number(value) for name, value in event["metrics"].items()}
        trial, epoch, when = int(event["trial"]), int(event["epoch"]), _number(event.get("time"))
        rows = len(self.arms)
        self.arms.append(str(event["arm"]))
        self.trials.append(trial)
        self.epochs.append(epoch)
        self.times.append(when)
        for name, value in values.items():
            column = self.metrics.get(name)
            if column is None:
                column = self.metrics[name] = array("d")
            column.extend([float("nan")] * (rows - len(column)))
            column.append(value)

    def frame(self) -> pd.DataFrame:
        rows = len(self.arms)
        for column in self.metrics.values():
            column.extend([float("nan")] * (rows - len(column)))
        return pd.DataFrame(
            {"arm": self.arms, "trial": self.trials, "epoch": self.epochs, "time": self.times, **self.metrics}
        ).astype({"arm": "str", "trial": "int64", "epoch": "int64", "time": "float64"})


def read(path: Path, cache: Path | None = None) -> Journal:
    """Return the journal at `path`; a missing file is an empty one.

    Args:
        path: `journal.jsonl`. A last line without its newline is a torn write and does not count.
        cache: folder of Parquet files to read from and to refresh; None reads and writes none.
    """
    kept, epochs, offset = _cached(path, cache)
    columns, lines, faults = _Columns(), list(kept), []
    end = offset
    for line, end in _lines(path, offset):
        try:
            event = json.loads(line)
            if event["event"] == "epoch":
                columns.add(event)
            else:
                lines.append(line.decode())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            faults.append(f"journal line that ends at byte {end}: {type(error).__name__}: {error}")
    if columns.arms:
        epochs = pd.concat([epochs, columns.frame()], ignore_index=True) if len(epochs) else columns.frame()
    if cache is not None and end - offset >= CACHE_STEP and not faults:
        _write_cache(path, cache, lines, epochs, end)
    if path.exists() and path.stat().st_size > end:
        faults.append("the journal's last line is torn (a driver was killed, or is writing it now)")
    return Journal([json.loads(line) for line in lines], epochs, faults)


def _lines(path: Path, offset: int) -> Iterator[tuple[bytes, int]]:
    """Yield each whole line behind byte `offset`, with the offset behind it."""
    if not path.exists():
        return
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            yield line, offset


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)


def _stamp(path: Path, offset: int) -> dict[bytes, bytes]:
    """What a cache must carry to belong to the first `offset` bytes of this journal."""
    with path.open("rb") as file:
        head = file.read(min(4096, offset))
        file.seek(max(0, offset - 4096))
        tail = file.read(min(4096, offset))
    return {b"offset": str(offset).encode(), b"check": hashlib.sha256(head + tail).hexdigest().encode()}


def _cached(path: Path, cache: Path | None) -> tuple[list[str], pd.DataFrame, int]:
    """Return event lines, epochs and offset of a cache that fits the journal, or empty ones."""
    try:
        if cache is not None:
            events, epochs = (pq.read_table(cache / f"{name}.parquet") for name in ("events", "epochs"))
            marks = [{key: (table.schema.metadata or {}).get(key) for key in (b"offset", b"check")}
                     for table in (events, epochs)]  # fmt: skip
            offset = int(marks[0][b"offset"] or 0)
            if marks[0] == marks[1] == _stamp(path, offset) and path.stat().st_size >= offset:
                return events["line"].to_pylist(), epochs.to_pandas(), offset
    except (OSError, ValueError, KeyError, pa.ArrowException):
        pass
    return [], _Columns().frame(), 0


def _write_cache(path: Path, cache: Path, lines: list[str], epochs: pd.DataFrame, offset: int) -> None:
    """Write both files, each atomically; a folder that cannot be written to is left without a cache."""
    tables = {"events": pa.table({"line": pa.array(lines, pa.string())}),
              "epochs": pa.Table.from_pandas(epochs, preserve_index=False)}  # fmt: skip
    try:
        cache.mkdir(exist_ok=True)
        for name, table in tables.items():
            metadata = {**(table.schema.metadata or {}), **_stamp(path, offset)}
            part = cache / f".{name}.{os.getpid()}.tmp"
            pq.write_table(table.replace_schema_metadata(metadata), part, compression="zstd")
            part.replace(cache / f"{name}.parquet")
    except OSError:
        pass
