"""The journal: every event of a sweep, one JSON object a line, appended by the driver alone, never changed."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class Journal:
    """An append-only event log.

    A line is on its way to the disk when `append` returns (it survives the death of the process, not of the
    machine). A torn last line of a killed driver is cut off when the journal is opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab")
        if torn := self._file.tell() - _whole_length(path):
            self._file.truncate(self._file.tell() - torn)
            self._file.seek(0, os.SEEK_END)

    def append(self, event: str, **fields: Any) -> None:
        """Write one event, stamped with the time."""
        line = json.dumps({"event": event, "time": round(time.time(), 3), **fields}, separators=(",", ":"))
        self._file.write(line.encode() + b"\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file; further events are an error."""
        self._file.close()


def read(path: Path, offset: int = 0) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield each whole event after byte `offset` with the offset behind it; nothing where there is no file."""
    if not path.exists():
        return
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            yield json.loads(line), offset


def _whole_length(path: Path) -> int:
    """Length in bytes up to and including the last newline."""
    with path.open("rb") as file:
        end = position = file.seek(0, os.SEEK_END)
        while position > 0:
            start = max(0, position - 65536)
            file.seek(start)
            newline = file.read(position - start).rfind(b"\n")
            if newline >= 0:
                return start + newline + 1
            position = start
        return 0 if end else end
