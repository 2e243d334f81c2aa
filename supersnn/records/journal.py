"""The journal: every event of a sweep, one JSON object a line, appended by the driver alone, never changed."""

import codecs
import json
from collections.abc import Collection, Iterator
from pathlib import Path

from supersnn.records.event_base import Event
from supersnn.records.events import AnyEvent, parse
from supersnn.records.lines import LineWriter, complete_length, read_lines


class Journal:
    """An append-only event log with one writer; see `LineWriter` for what survives a crash."""

    def __init__(self, path: Path) -> None:
        self._lines = LineWriter(path)

    @property
    def offset(self) -> int:
        """The journal's length in bytes."""
        return self._lines.offset

    def append(self, event: Event) -> None:
        """Write one event."""
        self._lines.append(event.model_dump_json(by_alias=True, exclude=event.left_out()))

    def close(self) -> None:
        """Close the file; further events are an error."""
        self._lines.close()


def read(
    path: Path, offset: int = 0, *, kinds: Collection[str] | None = None, faults: list[str] | None = None
) -> Iterator[tuple[AnyEvent, int]]:
    """Yield each event after byte `offset`, with the offset behind it; nothing where there is no file.

    A torn last line does not count. Lines that are no event are left out.

    Args:
        path: of the journal.
        offset: that of a line's first byte.
        kinds: of the events that are wanted, all by default.
        faults: takes one line of text for each line that is no event, and one for all events of kinds that a later
            version writes.
    """
    unknown: dict[str, int] = {}
    wanted = None if kinds is None else tuple(f'{{"event":"{kind}"'.encode() for kind in kinds)
    for line, end in read_lines(path, offset):
        if wanted is not None and line.startswith(b'{"event":"') and not line.startswith(wanted):
            continue
        try:
            event = parse(line.removeprefix(codecs.BOM_UTF8))
        except ValueError as error:
            if faults is not None:
                faults.append(f"{path.name}: the line that ends at byte {end} is no event: {error}")
            continue
        if event is None:
            kind = str(json.loads(line.removeprefix(codecs.BOM_UTF8))["event"])
            unknown[kind] = unknown.get(kind, 0) + 1
        elif kinds is None or event.event in kinds:
            yield event, end
    if unknown and faults is not None:
        counted = ", ".join(f"{kind} ({count})" for kind, count in sorted(unknown.items()))
        faults.append(f"{path.name}: skipped events that this version does not know: {counted}")


def is_torn(path: Path) -> bool:
    """Return whether the last line is incomplete: a driver was killed while it wrote it, or is writing it now."""
    return path.exists() and complete_length(path) != path.stat().st_size
