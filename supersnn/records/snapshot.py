"""A sweep's state saved beside its journal, so that a long journal is not read from its start again.

A snapshot is never needed: where it is missing, damaged, of another version or not of this journal, the journal is read
from its start.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import get_args

from pydantic import TypeAdapter, ValidationError

from supersnn.files import write_atomically
from supersnn.records import journal
from supersnn.records.costs import Costs
from supersnn.records.driver_session import DriverSession
from supersnn.records.events import AnyEvent
from supersnn.records.nodes import NodeRecord
from supersnn.records.search_state import SearchRecord
from supersnn.records.state import SweepState
from supersnn.records.trial_state import TrialRecord

_PARTS = (SweepState, SearchRecord, TrialRecord, DriverSession, NodeRecord, Costs)
VERSION = hashlib.sha256(
    repr(
        [
            [model.model_fields["event"].default for model in get_args(AnyEvent)],
            *([field.name for field in fields(one)] for one in _PARTS),
        ]
    ).encode()
).hexdigest()[:16]
"""Of the snapshot's format: it changes with the kinds of events and the fields of the state, so that no version of this
package takes up a state that was made without events or fields that it knows."""
INTERVAL = 8 << 20
"""Bytes of journal after which a driver saves another snapshot: reading so much takes a fraction of a second."""
_EDGE = 4096


@dataclass
class Snapshot:
    """A state, the length of the journal that it follows from, and a digest of that part's first and last bytes."""

    version: str
    offset: int
    check: str
    state: SweepState


_ADAPTER = TypeAdapter(Snapshot)


def save(path: Path, journal_path: Path, offset: int, state: SweepState) -> None:
    """Write the state that follows from the first `offset` bytes of a journal, atomically."""
    snapshot = Snapshot(VERSION, offset, _check(journal_path, offset), state)
    write_atomically(path, _ADAPTER.dump_json(snapshot))


def load(
    path: Path, journal_path: Path, constraints: Mapping[str, float] | None = None
) -> tuple[SweepState, int] | None:
    """Return a saved state and the offset behind it, None without one that belongs to this journal.

    One with other constraints than those given does not.
    """
    try:
        snapshot = _ADAPTER.validate_json(path.read_bytes())
        same = constraints is None or snapshot.state.constraints == dict(constraints)
        if same and snapshot.version == VERSION and snapshot.check == _check(journal_path, snapshot.offset):
            return snapshot.state, snapshot.offset
    except (OSError, ValidationError):
        pass
    return None


def current_state(path: Path, journal_path: Path, constraints: Mapping[str, float]) -> tuple[SweepState, int, int]:
    """Return the state that follows from the complete journal, its length, and how much of that was read.

    Args:
        path: of a snapshot, which may be missing.
        journal_path: of the journal, which may be missing.
        constraints: the sweep's `search.constraints`.
    """
    state, start = load(path, journal_path, constraints) or (SweepState(dict(constraints)), 0)
    offset = start
    for event, end in journal.read(journal_path, start, faults=state.faults):
        state.apply(event)
        offset = end
    return state, offset, offset - start


def _check(journal_path: Path, offset: int) -> str:
    """Return a digest of the first and the last bytes before `offset`.

    Raises:
        OSError: the journal cannot be read.
        ValueError: it is shorter.
    """
    if journal_path.stat().st_size < offset:
        raise OSError(f"{journal_path}: shorter than its snapshot")
    with journal_path.open("rb") as file:
        head = file.read(min(_EDGE, offset))
        file.seek(max(0, offset - _EDGE))
        tail = file.read(min(_EDGE, offset))
    return hashlib.sha256(head + tail).hexdigest()
