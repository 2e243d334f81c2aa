"""Append-only files of lines with one writer, and readers that never see a torn line."""

import os
from collections.abc import Iterator
from pathlib import Path

_BLOCK = 65536


class LineWriter:
    """Appends lines to a file.

    A line has been handed to the operating system when `append` returns: it survives the death of the process, not
    that of the machine. A torn last line of a writer that was killed is cut off when the file is opened.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab")
        complete = complete_length(path)
        if self._file.tell() != complete:
            self._file.truncate(complete)
            self._file.seek(0, os.SEEK_END)

    @property
    def offset(self) -> int:
        """The file's length in bytes."""
        return self._file.tell()

    def append(self, line: str) -> None:
        """Write one line; `line` has no newline."""
        self._file.write(line.encode() + b"\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file; further lines are an error."""
        self._file.close()


def read_lines(path: Path, offset: int = 0) -> Iterator[tuple[bytes, int]]:
    """Yield each complete line after byte `offset`, with the offset behind it; nothing where there is no file.

    A last line without its newline is a torn write and does not count.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            yield line, offset


def complete_length(path: Path) -> int:
    """Return the length in bytes up to and including the last newline; 0 where there is no file."""
    if not path.exists():
        return 0
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
