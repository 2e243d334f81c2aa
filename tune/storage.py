"""The storage that driver and workers share: a folder that all nodes see, or an object store with a local copy a node.

Names are paths in the store, with slashes: ``sweeps/NAME/owner``. In an object store a file or a folder NAME is

    NAME.manifest                the SHA-256 and the bytes of each of its files, written last: the name exists from then
    NAME.SHA, NAME/FILE.SHA      the contents, immutable
    NAME.claims/ID               the files that one node adds to a folder; of each file the first claim wins
"""

import functools
import hashlib
import json
import os
import re
import shutil
import socket
import time
import uuid
from collections.abc import Callable, Collection
from fnmatch import fnmatch
from pathlib import Path
from typing import TypeVar

from filelock import FileLock

from supersnn.errors import UserError
from supersnn.files import DamagedFile, sha256, write_atomically
from tune.object_store import ObjectStore

T = TypeVar("T")
Entry = tuple[str, int]
"""A file's SHA-256 and its bytes."""

SETTLED = 2.0
"""Seconds after which the server lists every claim that it has dated before one's own."""
DOWNLOADS = 4
"""Attempts to download a file that arrives damaged, or that is replaced meanwhile."""


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


class RemoteStorage(Storage):
    """An object store, and this node's local copies of what it uses, below `root`."""

    option = "--shared"
    requirement = "every node needs the same endpoint and credentials in its environment"

    def __init__(self, address: str, root: Path) -> None:
        super().__init__(root)
        self.address, self._objects = address, ObjectStore(address)

    def fetch(self, name: str) -> Path:
        """Download what the local copy lacks; a file that is no longer published is removed locally too."""
        local = self.root / name
        for _ in range(DOWNLOADS):
            manifest = self._manifest(name)
            if manifest is None:
                if local.is_file() and self._known(name):
                    local.unlink()
                self._manifest_copy(name).unlink(missing_ok=True)
                return local
            if self._download(name, manifest):
                return local
        raise DamagedFile(f"{self.address}/{name}: the content differs from its manifest")

    def publish(self, name: str) -> None:
        """Upload a file's content, then its manifest; then delete the earlier content."""
        before, entry = self._known(name).get(""), _entry(self.root / name)
        self._objects.upload(self.root / name, _content(name, "", entry))
        self._write_manifest(name, {"": entry})
        self._save_manifest_copy(name, {"": entry})
        if before not in (None, entry):
            self._objects.delete(_content(name, "", before))

    def get_or_create(self, name: str, make: Callable[[], T]) -> T:
        """Fetch the folder, call `make`, publish the new files; where that changed the folder, call `make` again."""
        local = self.root / name
        local.parent.mkdir(parents=True, exist_ok=True)
        node_lock = FileLock(local.with_name(f".{local.name}.node.lock"))
        with node_lock:
            self.fetch(name)
            before = self._known(name)
        made = make()
        with node_lock:
            self._contribute(name)
            unchanged = self._known(name) == before
        return made if unchanged else make()

    def evict(self, name: str) -> None:
        """Remove the local copy and its manifest; what is published stays."""
        local = self.root / name
        if local.is_dir():
            shutil.rmtree(local, ignore_errors=True)
        local.unlink(missing_ok=True)
        self._manifest_copy(name).unlink(missing_ok=True)

    def discard_damaged(self, name: str) -> bool:
        """Remove the local copy: the published one can be fetched again."""
        self.evict(name)
        return True

    def remove(self, folder: str, pattern: str) -> None:
        """Remove the files whose names match, published and local: manifests first."""
        names = [name for name, _ in self._objects.names(folder) if fnmatch(name.rpartition("/")[2], pattern)]
        for name in sorted(names, key=lambda name: not name.endswith(".manifest")):
            self._objects.delete(name)
        super().remove(folder, pattern)

    def folders(self, folder: str) -> set[str]:
        """Return the relative names of all folders below a folder that contain a published file."""
        names = (name.removeprefix(f"{folder}/") for name, _ in self._objects.names(folder, recursive=True))
        return {name.rpartition("/")[0] for name in names}

    def write_text(self, name: str, text: str) -> None:
        """Write a small text, published and local."""
        super().write_text(name, text)
        self._objects.write(name, text.encode())

    def read_text(self, name: str) -> str | None:
        """Return the current content of a published text."""
        content = self._objects.read(name)
        return None if content is None else content.decode(errors="replace")

    def complaint(self, name: str) -> str | None:
        """Test the object store with a single attempt per call; nothing is written locally."""
        objects, content = ObjectStore(self.address, attempts=1), uuid.uuid4().bytes
        try:
            objects.write(name, content)
            if objects.read(name) != content:
                return "a written object cannot be read"
            objects.delete(name)
            if objects.read(name) is not None:  # without the right to list, S3 refuses this instead of finding nothing
                return "a deleted object is still there"
        except OSError as error:
            return " ".join(str(error).split())[:300]
        return None

    def ledger_for(self, ledger: str, folder: str) -> str:
        """Return a ledger of the training's own, in its folder."""
        return f"{folder}/{ledger.rpartition('/')[2]}"

    def require_owner(self, name: str, drivers: Collection[str]) -> None:
        """Refuse an address that a sweep of the same name, of another store, uses."""
        owner = self.read_text(name)
        if owner is not None and owner not in drivers:
            sweep = name.rpartition("/")[0]
            raise UserError(f"{self}: {sweep} belongs to another store; use another address or rename the sweep")

    def _contribute(self, name: str) -> None:
        """Publish the files that a folder has only here, unless another node claimed them earlier.

        A node waits after its claim until every earlier claim is listed, so that all nodes agree on the first one.
        """
        local, known = self.root / name, self._known(name)
        files = [path for path in local.iterdir() if path.is_file()] if local.is_dir() else []
        new = {path.name: _entry(path) for path in files if path.name not in known and not path.name.startswith(".")}
        if not new:
            return
        for file, entry in new.items():
            self._objects.upload(local / file, _content(name, file, entry))
        self._objects.write(f"{name}.claims/{uuid.uuid4().hex}", json.dumps(new).encode())
        time.sleep(SETTLED)
        winners: dict[str, Entry] = {}
        for claim, _ in sorted(self._objects.names(f"{name}.claims"), key=lambda object_: object_[::-1]):
            winners = _entries(self._objects.read(claim)) | winners
        self._write_manifest(name, winners)
        self._save_manifest_copy(name, known | new)
        self.fetch(name)

    def _download(self, name: str, manifest: dict[str, Entry]) -> bool:
        """Download the files that are missing locally; return whether all are as the manifest describes."""
        known = self._known(name)
        for file, entry in manifest.items():
            path = self.root / name / file if file else self.root / name
            if known.get(file) == entry and path.exists() and path.stat().st_size == entry[1]:
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished = path.with_name(f".{path.name}.{os.getpid()}")
            try:
                if self._objects.download(_content(name, file, entry), unfinished) != entry:
                    return False
                os.replace(unfinished, path)
            except FileNotFoundError:
                return False
            finally:
                unfinished.unlink(missing_ok=True)
        self._save_manifest_copy(name, manifest)
        return True

    def _manifest(self, name: str) -> dict[str, Entry] | None:
        content = self._objects.read(f"{name}.manifest")
        return None if content is None else _entries(content)

    def _write_manifest(self, name: str, manifest: dict[str, Entry]) -> None:
        self._objects.write(f"{name}.manifest", json.dumps(manifest).encode())

    def _manifest_copy(self, name: str) -> Path:
        """Return the path of the manifest of the local copy."""
        path = self.root / name
        return path.with_name(f".{path.name}.manifest")

    def _known(self, name: str) -> dict[str, Entry]:
        """Return the manifest of the local copy."""
        path = self._manifest_copy(name)
        return _entries(path.read_bytes()) if path.exists() else {}

    def _save_manifest_copy(self, name: str, manifest: dict[str, Entry]) -> None:
        if self._known(name) != manifest:
            write_atomically(self._manifest_copy(name), json.dumps(manifest))


@functools.cache
def storage_at(address: str, root: Path | None = None) -> Storage:
    """Return the storage at the address of an object store, or in a folder that all nodes see.

    Args:
        address: an address that `is_address` accepts, or a folder.
        root: the folder of the local copies, by default this node's scratch folder (SUPERSNN_SCRATCH).

    Raises:
        UserError: the address is not valid.
    """
    return RemoteStorage(address, root or scratch(address)) if is_address(address) else Storage(Path(address))


def is_address(text: str) -> bool:
    """Return whether a text is the address of an object store, not a folder."""
    return re.match(r"\w+:/", text) is not None


def scratch(address: str) -> Path:
    """Return this node's folder of local copies for an address: below SUPERSNN_SCRATCH, else the user's cache.

    Its name contains the host's, for scratch folders on a shared file system.
    """
    folder = Path(os.environ.get("SUPERSNN_SCRATCH") or "~/.cache/supersnn").expanduser()
    return folder / hashlib.sha256(f"{socket.gethostname()} {address}".encode()).hexdigest()[:16]


def _content(name: str, file: str, entry: Entry) -> str:
    return f"{name}/{file}.{entry[0]}" if file else f"{name}.{entry[0]}"


def _entry(path: Path) -> Entry:
    return sha256(path), path.stat().st_size


def _entries(content: bytes | None) -> dict[str, Entry]:
    return {file: (sha, length) for file, (sha, length) in json.loads(content or b"{}").items()}
