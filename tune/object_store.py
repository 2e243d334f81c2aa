"""A client for object stores (``s3://``, ``gs://``, ``file://``): atomic writes, and retries on network errors.

The only module that accesses an object store.
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
FIRST_PAUSE = 0.5  # seconds after the first failure, doubled after each further one
_BLOCK = 16 * 2**20


class ObjectStore:
    """The objects below an address. Endpoint and credentials come from the environment, as pyarrow reads it.

    Every call is tried up to `attempts` times before its OSError is raised.
    """

    def __init__(self, address: str, attempts: int = ATTEMPTS) -> None:
        """Parse an address; the server is not contacted yet.

        Raises:
            UserError: the address is not valid.
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
            raise UserError(f"--shared {address}: expected a bucket's name, as s3://BUCKET/FOLDER")

    def read(self, name: str) -> bytes | None:
        """Return an object's bytes, None where it does not exist."""

        def content() -> bytes:
            with self._system.open_input_file(self._path(name)) as file:
                return bytes(file.read())

        try:
            return self._retry(content)
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes) -> None:
        """Write an object atomically: a reader sees the old content or the new one."""
        self._retry(lambda: self._put(name, iter([content])))

    def upload(self, path: Path, name: str) -> None:
        """Upload a file as an object."""
        self._retry(lambda: self._put(name, _blocks(path)))

    def download(self, name: str, path: Path) -> tuple[str, int]:
        """Download an object to a file; return its SHA-256 and its length in bytes.

        Raises:
            FileNotFoundError: the object does not exist.
        """
        return self._retry(lambda: self._get(name, path))

    def delete(self, name: str) -> None:
        """Delete an object, if it exists."""
        try:
            self._retry(lambda: self._system.delete_file(self._path(name)))
        except FileNotFoundError:
            return

    def names(self, folder: str, recursive: bool = False) -> list[tuple[str, float]]:
        """Return the names of a folder's objects and their times of writing, in Unix seconds of the server's clock."""
        from pyarrow.fs import FileSelector, FileType

        selector = FileSelector(self._path(folder), allow_not_found=True, recursive=recursive)
        infos = self._retry(lambda: self._system.get_file_info(selector))
        start = len(self._prefix) + 1
        return [(info.path[start:], info.mtime_ns / 1e9) for info in infos if info.type == FileType.File]

    def _path(self, name: str) -> str:
        return f"{self._prefix}/{name}"

    def _put(self, name: str, blocks: Iterator[bytes]) -> None:
        """Write an object atomically: a store shows it when its stream is closed, a file system when it is renamed."""
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

    def _retry(self, action: Callable[[], T]) -> T:
        """Call an action, with retries after growing pauses; a missing object is no failure."""
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
    """Return an S3 address with the option to write small objects in one request instead of three."""
    if not address.startswith("s3:"):
        return address
    return f"{address}{'&' if '?' in address else '?'}allow_delayed_open=true"


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            yield block
