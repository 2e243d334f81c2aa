"""Bytes under names behind an address (``s3://``, ``gs://``, ``file://``): written whole, with patience for a network
that fails now and then. The only room that talks to an object store.
"""

import hashlib
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from supersnn.errors import UserError

T = TypeVar("T")

ATTEMPTS = 6
FIRST_PAUSE = 0.5  # seconds after the first failure, then twice as many each time
_BLOCK = 16 * 2**20


class ObjectStore:
    """The objects below an address. Endpoint and credentials come from the environment, as pyarrow reads it.

    Every call is tried `attempts` times before its OSError comes out.
    """

    def __init__(self, address: str, attempts: int = ATTEMPTS) -> None:
        """Open an address; nothing is asked of the server yet.

        Raises:
            UserError: there can be no object store at this address.
        """
        from pyarrow import ArrowException
        from pyarrow.fs import FileSystem, LocalFileSystem

        self._attempts = attempts
        try:
            self._system, prefix = FileSystem.from_uri(_with_one_request(address))
        except (ArrowException, ValueError, OSError) as error:
            raise UserError(
                f"--shared {address}: expected s3://BUCKET/FOLDER, gs://BUCKET/FOLDER or file:///FOLDER ({error})"
            ) from error
        self._prefix = prefix.rstrip("/")
        self._local = isinstance(self._system, LocalFileSystem)
        if not self._prefix:
            raise UserError(f"--shared {address}: expected the name of a bucket in it, as s3://BUCKET/FOLDER")

    def read(self, name: str) -> bytes | None:
        """Return an object's bytes, None where there is no such object."""

        def content() -> bytes:
            with self._system.open_input_file(self._path(name)) as file:
                return bytes(file.read())

        try:
            return self._patiently(content)
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes) -> None:
        """Write an object; a reader sees the old one or the new one."""
        self._patiently(lambda: self._put(name, iter([content])))

    def upload(self, path: Path, name: str) -> None:
        """Write a file's content as an object."""
        self._patiently(lambda: self._put(name, _blocks(path)))

    def download(self, name: str, path: Path) -> tuple[str, int]:
        """Write an object's content to a file; return its SHA-256 and its bytes.

        Raises:
            FileNotFoundError: there is no such object.
        """
        return self._patiently(lambda: self._get(name, path))

    def delete(self, name: str) -> None:
        """Remove an object, if it is there."""
        try:
            self._patiently(lambda: self._system.delete_file(self._path(name)))
        except FileNotFoundError:
            return

    def names(self, folder: str, recursive: bool = False) -> list[tuple[str, float]]:
        """Return the objects in a folder by name, and when each was written: the server's clock, Unix seconds."""
        from pyarrow.fs import FileSelector, FileType

        selector = FileSelector(self._path(folder), allow_not_found=True, recursive=recursive)
        found = self._patiently(lambda: self._system.get_file_info(selector))
        cut = len(self._prefix) + 1
        return [(info.path[cut:], info.mtime_ns / 1e9) for info in found if info.type == FileType.File]

    def _path(self, name: str) -> str:
        return f"{self._prefix}/{name}"

    def _put(self, name: str, blocks: Iterator[bytes]) -> None:
        """An object store shows an object when its stream is closed; a file system, when it gets its name."""
        path = self._path(name)
        unfinished = f"{path}.{random.getrandbits(64):016x}" if self._local else path
        if self._local:
            self._system.create_dir(str(Path(path).parent), recursive=True)
        with self._system.open_output_stream(unfinished) as stream:
            for block in blocks:
                stream.write(block)
        if self._local:
            self._system.move(unfinished, path)

    def _get(self, name: str, path: Path) -> tuple[str, int]:
        digest, length = hashlib.sha256(), 0
        with self._system.open_input_file(self._path(name)) as source, path.open("wb") as file:
            while block := source.read(_BLOCK):
                file.write(block)
                digest.update(block)
                length += len(block)
        return digest.hexdigest(), length

    def _patiently(self, action: Callable[[], T]) -> T:
        """Do something, again after a while where it fails; that an object is not there is an answer, no failure."""
        pause = FIRST_PAUSE
        for _ in range(self._attempts - 1):
            try:
                return action()
            except FileNotFoundError:
                raise
            except OSError:
                time.sleep(pause * random.uniform(0.5, 1.0))
                pause *= 2
        return action()


def _with_one_request(address: str) -> str:
    """An S3 address at which a small object is written in one request instead of three."""
    if not address.startswith("s3:"):
        return address
    return f"{address}{'&' if '?' in address else '?'}allow_delayed_open=true"


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            yield block
