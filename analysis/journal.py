"""A sweep's journal in one pass: its `SweepState`, and every epoch in columns; both are cached.

The cache holds the state and the epochs up to one offset of the journal, so that a journal that grew is read on from
there. It is optional: where a part of it is missing or damaged, or it is of another journal, the journal is read from
its start. `digests.json` has the SHA-256 of its other files, so that no damage of theirs can change a figure.
"""

import json
import math
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.stored import LATEST
from supersnn.files import sha256, write_atomically
from supersnn.records import journal, snapshot
from supersnn.records.events import AnyEvent, EpochReported, TrialStarted
from supersnn.records.state import SweepState

CACHE_STEP = 1 << 20
"""Bytes of uncached journal from which the cache is written again."""
TYPES = {"dataset": "str", "replicate": "int64", "arm": "str", "trial": "int64", "epoch": "int64", "time": "float64"}
"""Of the columns that identify an epoch."""
STATE, EPOCHS, DIGESTS = "state.json", "epochs.parquet", "digests.json"
"""The cache's files."""
LARGEST = 2**53
"""Bound of the integers that a table can hold exactly."""


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
    datasets: list[str | None] = field(default_factory=list)
    replicates: "array[int]" = field(default_factory=lambda: array("q"))
    trials: "array[int]" = field(default_factory=lambda: array("q"))
    epochs: "array[int]" = field(default_factory=lambda: array("q"))
    times: "array[float]" = field(default_factory=lambda: array("d"))
    metrics: "dict[str, array[float]]" = field(default_factory=dict)

    def add(self, event: EpochReported) -> None:
        """Append an epoch."""
        rows = len(self.arms)
        self.arms.append(event.arm)
        self.datasets.append(event.dataset)
        self.replicates.append(event.replicate)
        self.trials.append(event.trial)
        self.epochs.append(event.epoch)
        self.times.append(event.time)
        for name, value in event.metrics.items():
            column = self.metrics.setdefault(name, array("d"))
            column.extend([math.nan] * (rows - len(column)))
            column.append(math.nan if value is None else value)

    def frame(self) -> pd.DataFrame:
        """Return the table: the columns of `TYPES`, `dataset` a label or missing, and a column for each metric."""
        for column in self.metrics.values():
            column.extend([math.nan] * (len(self.arms) - len(column)))
        keys = {"dataset": self.datasets, "replicate": self.replicates, "arm": self.arms, "trial": self.trials}
        return pd.DataFrame(keys | {"epoch": self.epochs, "time": self.times} | self.metrics).astype(TYPES)


def record_of(events: Iterable[AnyEvent], constraints: Mapping[str, float], faults: Iterable[str] = ()) -> SweepRecord:
    """Return what events add up to.

    Args:
        events: of one sweep.
        constraints: its `search.constraints`.
        faults: of what the events come from.
    """
    state, columns = SweepState(dict(constraints)), EpochColumns()
    found = list(faults)
    for event in events:
        if fault := _take(event, state, columns):
            found.append(f"an event of kind {event.event!r} is left out: {fault}")
    return SweepRecord(state, columns.frame(), found)


def read(path: Path, constraints: Mapping[str, float], cache: Path | None = None) -> SweepRecord:
    """Return what a journal adds up to; a missing file is an empty one, and so is one that cannot be read.

    Args:
        path: of `journal.jsonl`.
        constraints: the sweep's `search.constraints`.
        cache: a folder to read the cache from and to refresh it in; None for neither.
    """
    cached = None if cache is None else _cached(path, constraints, cache)
    state, epochs, start = cached or (SweepState(dict(constraints)), None, 0)
    columns, end = EpochColumns(), start
    faults: list[str] = []
    try:
        for event, offset in journal.read(path, start, faults=faults):
            if fault := _take(event, state, columns):
                faults.append(f"{path.name}: the line that ends at byte {offset} is left out: {fault}")
            end = offset
        if not path.exists():
            faults.append(f"{path.name}: missing: nothing is known of the sweep but its file")
        elif not path.stat().st_size:
            faults.append(f"{path.name}: empty: nothing is known of the sweep but its file")
        elif journal.is_torn(path):
            faults.append(f"{path.name}: torn last line: a driver was killed while it wrote it, or is writing it now")
    except OSError as error:
        faults.append(f"{path.name}: cannot be read: {error.strerror}")
    if epochs is None:
        epochs = columns.frame()
    elif columns.arms:
        epochs = pd.concat([epochs, columns.frame()], ignore_index=True)
    if cache is not None and end - start >= CACHE_STEP and not faults:
        _write_cache(path, cache, state, epochs, end)
    return SweepRecord(state, epochs, faults)


def _take(event: AnyEvent, state: SweepState, columns: EpochColumns) -> str | None:
    """Take an event, unless it has a value that no driver writes: then return that fault."""
    if fault := _fault(event):
        return fault
    state.apply(event)
    if isinstance(event, EpochReported):
        columns.add(event)
    return None


def _fault(event: AnyEvent) -> str | None:
    """Return the first value of an event that no table can hold, None for none."""
    if not 0 <= event.time <= LATEST:
        return f"time: expected seconds since 1970, found {event.time}"
    for name, value in event:
        if isinstance(value, int) and not -LARGEST < value < LARGEST:
            return f"{name}: expected a smaller number, found one of {len(str(value))} digits"
        if isinstance(value, float) and not math.isfinite(value):
            return f"{name}: expected a finite number, found {value}"
        if name in ("metrics", "rates") and value:
            for key, number in value.items():
                if name == "metrics" and "/" not in key:
                    return f"metrics.{key}: expected the key of a metric, as val/accuracy"
                if number is not None and math.isinf(number):
                    return f"{name}.{key}: expected a finite number, found {number}"
    if event.event in ("start", "epoch", "end", "ranked", "winner", "verified") and event.trial < 0:
        return f"trial: expected at least 0, found {event.trial}"
    if isinstance(event, EpochReported) and event.epoch < 1:
        return f"epoch: expected at least 1, found {event.epoch}"
    return _fault_of_start(event) if isinstance(event, TrialStarted) else None


def _fault_of_start(event: TrialStarted) -> str | None:
    for key in ("student.architecture", "teacher.name", "dataset.name"):
        if not isinstance(value := event.config.get(key), str | None):
            return f"config.{key}: expected text, found {type(value).__name__}"
    for key in ("seed", "train.epochs"):
        value = event.config.get(key)
        if not isinstance(value, int | None) or isinstance(value, bool) or abs(value or 0) >= LARGEST:
            return f"config.{key}: expected an integer, found {str(value)[:40]}"
    for key, value in event.params.items():
        finite = not isinstance(value, int | float) or abs(value) < math.inf
        if not (isinstance(value, str | int | float | None) and finite and (isinstance(value, str) or value == value)):
            return f"params.{key}: expected text or a finite number, found {str(value)[:40]}"
    return None


def _cached(path: Path, constraints: Mapping[str, float], cache: Path) -> tuple[SweepState, pd.DataFrame, int] | None:
    """Return the cached state, epochs and offset, None where they are not of this journal and these constraints."""
    try:
        if json.loads((cache / DIGESTS).read_bytes()) != _digests(cache):
            return None
        table = pq.read_table(cache / EPOCHS)
    except (OSError, ValueError, pa.ArrowException):
        return None
    loaded = snapshot.load(cache / STATE, path)
    if not TYPES.keys() <= set(table.column_names):  # of a version without replicates
        return None
    if loaded is None or loaded[0].constraints != constraints:
        return None
    return loaded[0], table.to_pandas(), loaded[1]


def _write_cache(path: Path, cache: Path, state: SweepState, epochs: pd.DataFrame, offset: int) -> None:
    """Write the files, each atomically; a folder that cannot be written to stays without a cache."""
    table, buffer = pa.Table.from_pandas(epochs, preserve_index=False), pa.BufferOutputStream()
    try:
        snapshot.save(cache / STATE, path, offset, state)
        pq.write_table(table, buffer, compression="zstd")
        write_atomically(cache / EPOCHS, buffer.getvalue().to_pybytes())
        write_atomically(cache / DIGESTS, json.dumps(_digests(cache)))
    except OSError:
        pass


def _digests(cache: Path) -> dict[str, str]:
    """Return the SHA-256 of the cache's files by name."""
    return {name: sha256(cache / name) for name in (STATE, EPOCHS)}
