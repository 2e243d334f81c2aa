"""Files that are complete or absent: atomic writes, checksums, and the error for what is damaged. No torch here."""

import glob
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_ASK_EVERY = 5.0
"""Seconds between two calls of what waits for a lock."""


class DamagedFile(Exception):
    """A stored file is not what was written: torn, changed, or of another kind."""


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write a file so that a reader sees the old content or the new, never a part (one machine's file system).

    The content survives the death of the process, not that of the machine.
    """
    with atomic_file(path) as unfinished:
        unfinished.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write a file at, which is renamed to `path` unless the block raises an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield unfinished
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def remove_left_behind(path: Path) -> None:
    """Remove the temporary files of a path of processes of this machine that were killed while they wrote it."""
    for unfinished in path.parent.glob(f".{glob.escape(path.name)}.*"):
        process = unfinished.name.rpartition(".")[2]
        if process.isdecimal() and not _lives(int(process)):
            unfinished.unlink(missing_ok=True)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # of another user
    return True


@contextmanager
def locked(path: Path, waits: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold a file lock in the block; `waits` is called every few seconds while another process has it."""
    from filelock import FileLock, Timeout  # what only reads exports does not need it

    lock = FileLock(path)
    while not lock.is_locked:
        try:
            lock.acquire(timeout=_ASK_EVERY if waits is not None else -1)
        except Timeout:
            if waits is not None:
                waits()
    try:
        yield
    finally:
        lock.release()


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal digits.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def printable(path: Path | str) -> str:
    """Return a path or a name as one line that every UTF-8 terminal shows: other characters are escaped."""
    text = str(path)
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
