"""The storage in an object store, with a local copy on each node of what it uses.

In an object store a file or a folder NAME is

    NAME.manifest                the SHA-256 and the bytes of each of its files, written last: the name exists from then
    NAME.SHA, NAME/FILE.SHA      the contents, immutable
    NAME.claims/ID               the files that one node adds to a folder; of each file the first claim wins
"""

import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TypeVar

from filelock import FileLock

from supersnn.errors import UserError
from supersnn.files import DamagedFile, remove_left_behind, sha256, write_atomically
from tune.fetches import Fetches
from tune.object_store import ObjectStore
from tune.removals import Removals
from tune.storage import Storage

T = TypeVar("T")
Entry = tuple[str, int]
"""A file's SHA-256 and its bytes."""

SETTLED = 2.0
"""Seconds after which the server lists every claim that it has dated before one's own."""
DOWNLOADS = 4
"""Attempts to download a file that arrives damaged, or that is replaced meanwhile."""


class RemoteStorage(Storage):
    """An object store, and this node's local copies of what it uses, below `root`."""

    option = "--shared"
    requirement = "every node needs the same endpoint and credentials in its environment"

    def __init__(self, address: str, root: Path) -> None:
        super().__init__(root)
        self.address, self._objects = address, ObjectStore(address)
        self._removals, self._fetches = Removals(self._objects), Fetches(self.fetch)

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

    def fetch_later(self, name: str) -> None:
        """Fetch in a thread."""
        self._fetches.later(name)

    def publish(self, name: str) -> None:
        """Upload a file's content, then its manifest; then delete the earlier content."""
        before, entry = self._known(name).get(""), _entry(self.root / name)
        self._objects.upload(self.root / name, _content(name, "", entry))
        self._write_manifest(name, {"": entry})
        self._save_manifest_copy(name, {"": entry})
        if before not in (None, entry):
            self._objects.delete([_content(name, "", before)])

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
        self._removals.now([(folder, pattern)])
        super().remove(folder, pattern)

    def remove_later(self, folder: str, pattern: str) -> None:
        """Remove the local files now, and the published ones in a thread, together with others."""
        super().remove(folder, pattern)
        self._removals.later(folder, pattern)

    def flush(self) -> None:
        """Wait until everything that was to be removed or fetched later is."""
        self._fetches.flush()
        self._removals.flush()

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
        objects, content = ObjectStore(self.address, patience=0), uuid.uuid4().bytes
        try:
            objects.write(name, content)
            if objects.read(name) != content:
                return "a written object cannot be read"
            objects.delete([name])
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
            remove_left_behind(path)
            unfinished = path.with_name(f".{path.name}.{os.getpid()}")
            try:
                if self._objects.download(_content(name, file, entry), unfinished) != entry:
                    return False
                os.replace(unfinished, path)
            except FileNotFoundError:
                return False
            finally:
                unfinished.unlink(missing_ok=True)
            known[file] = entry
            self._save_manifest_copy(name, known)  # a download that is ended goes on here
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


def _content(name: str, file: str, entry: Entry) -> str:
    return f"{name}/{file}.{entry[0]}" if file else f"{name}.{entry[0]}"


def _entry(path: Path) -> Entry:
    return sha256(path), path.stat().st_size


def _entries(content: bytes | None) -> dict[str, Entry]:
    return {file: (sha, length) for file, (sha, length) in json.loads(content or b"{}").items()}
