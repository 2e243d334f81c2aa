"""A sweep's journal in one pass: its `SweepState`, and every epoch in columns; both are cached.

The cache holds the state and the epochs up to one offset of the journal, so that a journal that grew is read on from
there. It is optional: where a part of it is missing or damaged, or it is of another journal, the journal is read from
its start.
"""

import math
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from supersnn.files import sha256, write_atomically
from supersnn.records import journal, snapshot
from supersnn.records.events import AnyEvent, EpochReported
from supersnn.records.state import SweepState

CACHE_STEP = 1 << 20
"""Bytes of uncached journal from which the cache is written again."""
STATE, EPOCHS = "state.json", "epochs.parquet"
"""The cache's files."""
_SNAPSHOT = b"snapshot"
"""The Parquet file's metadata key: the SHA-256 of the state's file that it belongs to."""


@dataclass(frozen=True)
class SweepRecord:
    """A sweep's `state`, its `epochs` as reported (repeated ones too), and the `faults` of its files, one line each."""

    state: SweepState
    epochs: pd.DataFrame
    faults: list[str]


@dataclass
class EpochColumns:
    """Epochs by column; a metric that first appears late is NaN before."""

    arms: list[str] = field(default_factory=list)
    trials: "array[int]" = field(default_factory=lambda: array("q"))
    epochs: "array[int]" = field(default_factory=lambda: array("q"))
    times: "array[float]" = field(default_factory=lambda: array("d"))
    metrics: "dict[str, array[float]]" = field(default_factory=dict)

    def add(self, event: EpochReported) -> None:
        """Append an epoch."""
        rows = len(self.arms)
        self.arms.append(event.arm)
        self.trials.append(event.trial)
        self.epochs.append(event.epoch)
        self.times.append(event.time)
        for name, value in event.metrics.items():
            column = self.metrics.setdefault(name, array("d"))
            column.extend([math.nan] * (rows - len(column)))
            column.append(math.nan if value is None else value)

    def frame(self) -> pd.DataFrame:
        """Return the table: `arm`, `trial`, `epoch`, `time`, and a column for each metric."""
        for column in self.metrics.values():
            column.extend([math.nan] * (len(self.arms) - len(column)))
        return pd.DataFrame(
            {"arm": self.arms, "trial": self.trials, "epoch": self.epochs, "time": self.times, **self.metrics}
        ).astype({"arm": "str", "trial": "int64", "epoch": "int64", "time": "float64"})


def record_of(events: Iterable[AnyEvent], constraints: Mapping[str, float], faults: Iterable[str] = ()) -> SweepRecord:
    """Return what events add up to.

    Args:
        events: of one sweep.
        constraints: its `search.constraints`.
        faults: of what the events come from.
    """
    state, columns = SweepState(dict(constraints)), EpochColumns()
    for event in events:
        _take(event, state, columns)
    return SweepRecord(state, columns.frame(), list(faults))


def read(path: Path, constraints: Mapping[str, float], cache: Path | None = None) -> SweepRecord:
    """Return what a journal adds up to; a missing file is an empty one.

    Args:
        path: of `journal.jsonl`.
        constraints: the sweep's `search.constraints`.
        cache: a folder to read the cache from and to refresh it in; None for neither.
    """
    cached = None if cache is None else _cached(path, constraints, cache)
    state, epochs, start = cached or (SweepState(dict(constraints)), None, 0)
    columns, end = EpochColumns(), start
    faults: list[str] = []
    for event, offset in journal.read(path, start, faults=faults):
        _take(event, state, columns)
        end = offset
    if epochs is None:
        epochs = columns.frame()
    elif columns.arms:
        epochs = pd.concat([epochs, columns.frame()], ignore_index=True)
    if cache is not None and end - start >= CACHE_STEP and not faults:
        _write_cache(path, cache, state, epochs, end)
    if journal.is_torn(path):
        faults.append(f"{path.name}: torn last line: a driver was killed while it wrote it, or is writing it now")
    return SweepRecord(state, epochs, faults)


def _take(event: AnyEvent, state: SweepState, columns: EpochColumns) -> None:
    state.apply(event)
    if isinstance(event, EpochReported):
        columns.add(event)


def _cached(path: Path, constraints: Mapping[str, float], cache: Path) -> tuple[SweepState, pd.DataFrame, int] | None:
    """Return the cached state, epochs and offset, None where they are not of this journal and these constraints."""
    try:
        table = pq.read_table(cache / EPOCHS)
        if (table.schema.metadata or {}).get(_SNAPSHOT) != sha256(cache / STATE).encode():
            return None
    except (OSError, ValueError, pa.ArrowException):
        return None
    loaded = snapshot.load(cache / STATE, path)
    if loaded is None or loaded[0].constraints != constraints:
        return None
    return loaded[0], table.to_pandas(), loaded[1]


def _write_cache(path: Path, cache: Path, state: SweepState, epochs: pd.DataFrame, offset: int) -> None:
    """Write both files, each atomically; a folder that cannot be written to stays without a cache."""
    table, buffer = pa.Table.from_pandas(epochs, preserve_index=False), pa.BufferOutputStream()
    try:
        snapshot.save(cache / STATE, path, offset, state)
        metadata = {**(table.schema.metadata or {}), _SNAPSHOT: sha256(cache / STATE).encode()}
        pq.write_table(table.replace_schema_metadata(metadata), buffer, compression="zstd")
        write_atomically(cache / EPOCHS, buffer.getvalue().to_pybytes())
    except OSError:
        pass
