"""The storage that driver and workers share: a folder that all nodes see, or an object store (`remote_storage.py`).

Names are paths in the store, with slashes: ``sweeps/NAME/owner``.
"""

import functools
import hashlib
import os
import re
import shutil
import socket
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TypeVar

from supersnn.files import write_atomically

T = TypeVar("T")


class Storage:
    """A folder that all nodes see: everything written is visible to all at once, so that most methods do nothing.

    Attributes:
        root: the folder in which this process reads and writes.
        address: where other processes find the storage, see `storage_at`.
        option: the command line's option that sets the address.
        requirement: what nodes need to use the storage, for messages.
    """

    option = "--store"
    requirement = "--store must be a folder that all nodes share; otherwise use --shared"

    def __init__(self, root: Path) -> None:
        self.root, self.address = root, str(root)

    def __str__(self) -> str:
        return f"{self.option} {self.address}"

    def name(self, path: Path) -> str:
        """Return the name of a path below `root`."""
        return path.relative_to(self.root).as_posix()

    def fetch(self, name: str) -> Path:
        """Return the local path of a file or a folder as last published; the path does not exist if it never was.

        Raises:
            DamagedFile: the stored content is not the published one.
        """
        return self.root / name

    def fetch_later(self, name: str) -> None:
        """Fetch as `fetch` does, soon, without waiting for an object store; `flush` waits."""

    def publish(self, name: str) -> None:
        """Publish a file, which has one writer; it replaces the earlier version."""

    def get_or_create(self, name: str, make: Callable[[], T]) -> T:
        """Return the result of `make`, which reads a folder, and creates the files that it lacks.

        The folder then has the same files on all nodes: of each file the first published one wins.
        """
        del name
        return make()

    def evict(self, name: str) -> None:
        """Remove this node's local copy of a file or a folder; what is published stays."""

    def discard_damaged(self, name: str) -> bool:
        """Remove this node's copy of a damaged file or folder, if it is one; return whether to fetch it again."""
        del name
        return False

    def remove(self, folder: str, pattern: str) -> None:
        """Remove a folder's files whose names match, and the folder if it is empty then."""
        local = self.root / folder
        for path in local.glob(pattern):
            path.unlink(missing_ok=True)
        if local.exists() and not any(local.iterdir()):
            shutil.rmtree(local, ignore_errors=True)

    def remove_later(self, folder: str, pattern: str) -> None:
        """Remove as `remove` does, soon, without waiting for an object store; `flush` waits."""
        self.remove(folder, pattern)

    def flush(self) -> None:
        """Wait until everything that was to be removed or fetched later is.

        Raises:
            OSError: the object store cannot be reached.
        """

    def folders(self, folder: str) -> set[str]:
        """Return the relative names of all folders below a folder that contain a file."""
        local = self.root / folder
        return {path.parent.relative_to(local).as_posix() for path in local.rglob("*") if path.is_file()}

    def write_text(self, name: str, text: str) -> None:
        """Write and publish a small text."""
        write_atomically(self.root / name, text)

    def read_text(self, name: str) -> str | None:
        """Return the current content of a text, None where there is none."""
        path = self.root / name
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else None

    def complaint(self, name: str) -> str | None:
        """Write, read and remove a text for a test; return the first failure, None where all works.

        A folder is not tested: its errors are plain where they occur.
        """
        del name
        return None

    def shares_root_with_workers(self) -> bool:
        """Return whether a worker on this machine uses the same `root`."""
        return storage_at(self.address).root == self.root

    def ledger_for(self, ledger: str, folder: str) -> str:
        """Return the name of the ledger to which a training with its results in `folder` appends.

        That is the shared `ledger` itself where all processes append to the same file. A published file has one
        writer: there each training has a ledger beside its results, which the driver merges.
        """
        del folder
        return ledger

    def require_owner(self, name: str, drivers: Collection[str]) -> None:
        """Check that the owner of a sweep, if it has one, is among its drivers; `name` is that of its owner's token.

        In a folder it always is, because the drivers are known from the sweep's own journal.

        Raises:
            UserError: a sweep of the same name, of another store, uses this address.
        """


@functools.cache
def storage_at(address: str, root: Path | None = None) -> Storage:
    """Return the storage at the address of an object store, or in a folder that all nodes see.

    Args:
        address: an address that `is_address` accepts, or a folder.
        root: the folder of the local copies, by default this node's scratch folder (SUPERSNN_SCRATCH).

    Raises:
        UserError: the address is not valid.
    """
    if not is_address(address):
        return Storage(Path(address))
    from tune.remote_storage import RemoteStorage

    return RemoteStorage(address, root or scratch(address))


def is_address(text: str) -> bool:
    """Return whether a text is the address of an object store, not a folder."""
    return re.match(r"\w+:/", text) is not None


def scratch(address: str) -> Path:
    """Return this node's folder of local copies for an address: below SUPERSNN_SCRATCH, else the user's cache.

    Its name contains the host's, for scratch folders on a shared file system.
    """
    folder = Path(os.environ.get("SUPERSNN_SCRATCH") or "~/.cache/supersnn").expanduser()
    return folder / hashlib.sha256(f"{socket.gethostname()} {address}".encode()).hexdigest()[:16]
