"""The journal: every event of a sweep, one JSON object a line, appended by the driver alone, never changed."""

import json
import os
from collections.abc import Collection, Iterator
from pathlib import Path

from supersnn.records.events import AnyEvent, Event, parse

_BLOCK = 65536


class Journal:
    """An append-only event log with one writer.

    A line has been handed to the operating system when `append` returns: it survives the death of the process, not
    that of the machine. A torn last line of a killed driver is cut off when the journal is opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab")
        complete = _complete_length(path)
        if self._file.tell() != complete:
            self._file.truncate(complete)
            self._file.seek(0, os.SEEK_END)

    @property
    def offset(self) -> int:
        """The journal's length in bytes."""
        return self._file.tell()

    def append(self, event: Event) -> None:
        """Write one event."""
        self._file.write(event.model_dump_json(by_alias=True).encode() + b"\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file; further events are an error."""
        self._file.close()


def read(
    path: Path, offset: int = 0, *, kinds: Collection[str] | None = None, faults: list[str] | None = None
) -> Iterator[tuple[AnyEvent, int]]:
    """Yield each event after byte `offset`, with the offset behind it; nothing where there is no file.

    A last line without its newline is a torn write and does not count. Lines that are no event are left out.

    Args:
        path: of the journal.
        offset: that of a line's first byte.
        kinds: of the events that are wanted, all by default.
        faults: takes one line of text for each line that is no event, and one for all events of kinds that a later
            version writes.
    """
    unknown: dict[str, int] = {}
    wanted = None if kinds is None else tuple(f'{{"event":"{kind}"'.encode() for kind in kinds)
    for line, end in _lines(path, offset):
        if wanted is not None and line.startswith(b'{"event":"') and not line.startswith(wanted):
            continue
        try:
            event = parse(line)
        except ValueError as error:
            if faults is not None:
                faults.append(f"{path.name}: the line that ends at byte {end} is no event: {error}")
            continue
        if event is None:
            kind = str(json.loads(line)["event"])
            unknown[kind] = unknown.get(kind, 0) + 1
        elif kinds is None or event.event in kinds:
            yield event, end
    if unknown and faults is not None:
        kinds_seen = ", ".join(f"{kind} ({count})" for kind, count in sorted(unknown.items()))
        faults.append(f"{path.name}: skipped events that this version does not know: {kinds_seen}")


def is_torn(path: Path) -> bool:
    """Return whether the last line is incomplete: a driver was killed while it wrote it, or is writing it now."""
    return path.exists() and _complete_length(path) != path.stat().st_size


def complete_length(path: Path) -> int:
    """Return the length in bytes of a journal's complete lines, 0 where there is no file."""
    return _complete_length(path) if path.exists() else 0


def _lines(path: Path, offset: int) -> Iterator[tuple[bytes, int]]:
    """Yield each complete line after byte `offset`, with the offset behind it."""
    if not path.exists():
        return
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            yield line, offset


def _complete_length(path: Path) -> int:
    """Return the length in bytes up to and including the last newline."""
    with path.open("rb") as file:
        position = file.seek(0, os.SEEK_END)
        while position > 0:
            start = max(0, position - _BLOCK)
            file.seek(start)
            newline = file.read(position - start).rfind(b"\n")
            if newline >= 0:
                return start + newline + 1
            position = start
        return 0
