"""A client for object stores (``s3://``, ``gs://``, ``file://``): atomic writes, and retries on network errors.

The only module that accesses an object store.
"""

import hashlib
import random
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

from supersnn.errors import UserError

T = TypeVar("T")

PATIENCE = 150.0
"""Seconds over which a failing request is tried again: more than an outage of a minute or two."""
PATIENCE_WITH_REFUSALS = 12.0
"""The same where the server says that it refuses: rights and buckets that were just made take a few seconds to hold."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 10.0
"""Seconds after the first failure, doubled after each further one up to the longest pause."""
REFUSALS = ("ACCESS_DENIED", "INVALID_ACCESS_KEY_ID", "NO_SUCH_BUCKET", "SIGNATURE_DOES_NOT_MATCH")
"""What errors that another attempt does not mend contain."""
DELETED_AT_ONCE = 1000
"""How many objects S3 deletes in one request."""
_BLOCK = 16 * 2**20


class ObjectStore:
    """The objects below an address. Endpoint and credentials come from the environment, as pyarrow reads it.

    A failing call is repeated for `patience` seconds before its OSError is raised.
    """

    def __init__(self, address: str, patience: float = PATIENCE) -> None:
        """Parse an address; the server is not contacted yet.

        Raises:
            UserError: the address is not valid.
        """
        from pyarrow import ArrowException
        from pyarrow.fs import FileSystem, LocalFileSystem

        self._patience = patience
        try:
            self._system, prefix = FileSystem.from_uri(_with_one_request(address))
        except (ArrowException, ValueError, OSError) as error:
            raise UserError(
                f"--shared {address}: expected s3://BUCKET/FOLDER, gs://BUCKET/FOLDER or file:///FOLDER ({error})"
            ) from error
        self._prefix = prefix.rstrip("/")
        self._local = isinstance(self._system, LocalFileSystem)
        self._address = address
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

    def delete(self, names: Sequence[str]) -> None:
        """Delete objects, if they exist: on S3 a thousand in one request where boto3 is installed, else one by one."""
        if self._client is None:
            for name in names:
                self._delete_one(name)
            return
        for start in range(0, len(names), DELETED_AT_ONCE):
            some = names[start : start + DELETED_AT_ONCE]
            self._retry(partial(self._delete_together, some))

    @cached_property
    def _client(self) -> Any:
        """boto3's client, which deletes many objects in a request; None where there is none."""
        return _s3_client(self._address) if self._address.startswith("s3:") else None

    def _delete_one(self, name: str) -> None:
        try:
            self._retry(lambda: self._system.delete_file(self._path(name)))
        except FileNotFoundError:
            return

    def _delete_together(self, names: Sequence[str]) -> None:
        from botocore.exceptions import BotoCoreError, ClientError

        bucket, _, folder = self._prefix.partition("/")
        keys = [{"Key": f"{folder}/{name}" if folder else name} for name in names]
        try:
            answer = self._client.delete_objects(Bucket=bucket, Delete={"Objects": keys, "Quiet": True})
        except (BotoCoreError, ClientError) as error:
            raise OSError(f"deleting objects: {error}") from error
        for fault in answer.get("Errors", ()):
            raise OSError(f"deleting {fault.get('Key')}: {fault.get('Code')}: {fault.get('Message')}")

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
        pause, began = FIRST_PAUSE, time.monotonic()
        while True:
            try:
                return action()
            except FileNotFoundError:
                raise
            except OSError as error:
                refused = any(reason in str(error) for reason in REFUSALS)
                patience = min(self._patience, PATIENCE_WITH_REFUSALS) if refused else self._patience
                if time.monotonic() + pause > began + patience:
                    raise
            time.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, LONGEST_PAUSE)


def _s3_client(address: str) -> Any:
    """Return boto3's client for an address, with what it sets of the connection; None where boto3 is not installed."""
    try:
        import boto3
    except ImportError:
        return None
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    parts = urlsplit(address)
    given = {name: values[0] for name, values in parse_qs(parts.query).items()}
    endpoint = given.get("endpoint_override")
    if endpoint is not None and "://" not in endpoint:
        endpoint = f"{given.get('scheme', 'https')}://{endpoint}"
    try:
        return boto3.client(
            "s3",
            endpoint_url=endpoint,
            region_name=given.get("region"),
            aws_access_key_id=parts.username and unquote(parts.username),
            aws_secret_access_key=parts.password and unquote(parts.password),
            config=Config(retries={"total_max_attempts": 1}, connect_timeout=10, read_timeout=30),
        )
    except (BotoCoreError, ValueError):
        return None


def _with_one_request(address: str) -> str:
    """Return an S3 address with the option to write small objects in one request instead of three."""
    if not address.startswith("s3:"):
        return address
    return f"{address}{'&' if '?' in address else '?'}allow_delayed_open=true"


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            yield block
