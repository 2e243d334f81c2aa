"""What driver and workers exchange: in the store, a folder that all nodes see, or in an object store, of which each
node has a copy of its own on a disk of its own.

Names are those of paths in the store, with slashes: ``sweeps/NAME/owner``. Behind an address a file or a folder NAME is

    NAME.manifest                the SHA-256 and the bytes of each of its files, written last: nothing is there before
    NAME.SHA, NAME/FILE.SHA      the contents, never changed
    NAME.claims/ID               what one node brought to a folder; of each file the first claim counts
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
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import TypeVar

from filelock import FileLock

from supersnn.files import DamagedFile, sha256, write_atomically
from tune.object_store import ObjectStore

T = TypeVar("T")
Entry = tuple[str, int]
"""A file's SHA-256 and its bytes."""

SETTLED = 2.0
"""Seconds after which every claim that the server has dated before one's own is listed too."""
DOWNLOADS = 4
"""How often something is fetched anew that is damaged, or that is replaced meanwhile."""


class Storage:
    """A folder that every process sees: what is written there is there for all, and nothing else is to be done."""

    direct = True

    def __init__(self, root: Path) -> None:
        self.root, self.address = root, str(root)

    def name(self, path: Path) -> str:
        """Return the name of a path below `root`."""
        return path.relative_to(self.root).as_posix()

    def fetch(self, name: str) -> Path:
        """Return the path of a file or a folder as it was last published; there is none where it never was.

        Raises:
            DamagedFile: what is stored is not what was published.
        """
        return self.root / name

    def publish(self, name: str) -> None:
        """Show a file to all others, in place of the earlier one; it has one writer."""

    def get_or_create(self, name: str, make: Callable[[], T]) -> T:
        """Return what `make` returns, when the folder that it reads, and fills where it lacks something, is the same
        everywhere: of each file the first that any node published.
        """
        return make()

    def evict(self, name: str) -> None:
        """Drop this node's own copy of a file or a folder."""

    def remove(self, folder: str, pattern: str) -> None:
        """Remove a folder's files whose names match, and the folder if it is empty then."""
        here = self.root / folder
        for path in here.glob(pattern):
            path.unlink(missing_ok=True)
        if here.exists() and not any(here.iterdir()):
            shutil.rmtree(here, ignore_errors=True)

    def folders(self, folder: str) -> set[str]:
        """Return the names, below a folder, of all folders in which a file lies."""
        here = self.root / folder
        return {path.parent.relative_to(here).as_posix() for path in here.rglob("*") if path.is_file()}

    def write_text(self, name: str, text: str) -> None:
        """Write a small text that others may read at once."""
        write_atomically(self.root / name, text)

    def read_text(self, name: str) -> str | None:
        """Return a text as it is now, None where there is none."""
        path = self.root / name
        return path.read_text(encoding="utf-8") if path.exists() else None

    def complaint(self, name: str) -> str | None:
        """Try a place by writing, reading and removing a text; return what does not go, in words, None where all does.

        A folder needs no trial beforehand: its own errors are plain.
        """
        return None


class RemoteStorage(Storage):
    """An object store at an address, and this node's copy of what it needs of it, below `root`."""

    direct = False

    def __init__(self, address: str, root: Path) -> None:
        super().__init__(root)
        self.address, self._objects = address, ObjectStore(address)

    def fetch(self, name: str) -> Path:
        """Bring what was published here, where it is not yet; a file that was and is no more goes here too."""
        here = self.root / name
        for _ in range(DOWNLOADS):
            manifest = self._manifest(name)
            if manifest is None:
                if here.is_file() and self._known(name):
                    here.unlink()
                self._mark(name).unlink(missing_ok=True)
                return here
            if self._bring(name, manifest):
                return here
        raise DamagedFile(f"{self.address}/{name}: not what its manifest describes")

    def publish(self, name: str) -> None:
        """Send a file's content, then its manifest; the content of before goes."""
        before, entry = self._known(name).get(""), _entry(self.root / name)
        self._objects.upload(self.root / name, _content(name, "", entry))
        self._reveal(name, {"": entry})
        self._note(name, {"": entry})
        if before not in (None, entry):
            self._objects.delete(_content(name, "", before))

    def get_or_create(self, name: str, make: Callable[[], T]) -> T:
        """Fetch the folder, make, and bring what is new to all; where that changed the folder, make again from it."""
        here = self.root / name
        here.parent.mkdir(parents=True, exist_ok=True)
        alone = FileLock(here.with_name(f".{here.name}.node.lock"))
        with alone:
            self.fetch(name)
            before = self._known(name)
        made = make()
        with alone:
            self._contribute(name)
            settled = self._known(name) == before
        return made if settled else make()

    def evict(self, name: str) -> None:
        """Drop this node's own copy; what is published stays."""
        here = self.root / name
        if here.is_dir():
            shutil.rmtree(here, ignore_errors=True)
        here.unlink(missing_ok=True)
        self._mark(name).unlink(missing_ok=True)

    def remove(self, folder: str, pattern: str) -> None:
        """Remove the files whose names match, there and here: manifests first."""
        names = [name for name, _ in self._objects.names(folder) if fnmatch(name.rpartition("/")[2], pattern)]
        for name in sorted(names, key=lambda name: not name.endswith(".manifest")):
            self._objects.delete(name)
        super().remove(folder, pattern)

    def folders(self, folder: str) -> set[str]:
        """Return the names, below a folder, of all folders in which something lies there."""
        names = (name.removeprefix(f"{folder}/") for name, _ in self._objects.names(folder, recursive=True))
        return {name.rpartition("/")[0] for name in names}

    def write_text(self, name: str, text: str) -> None:
        """Write a small text there and here."""
        super().write_text(name, text)
        self._objects.write(name, text.encode())

    def read_text(self, name: str) -> str | None:
        """Return a text as it is there now."""
        content = self._objects.read(name)
        return None if content is None else content.decode()

    def complaint(self, name: str) -> str | None:
        """Say what does not go, at the first failure; nothing is written here."""
        objects, content = ObjectStore(self.address, attempts=1), uuid.uuid4().bytes
        try:
            objects.write(name, content)
            if objects.read(name) != content:
                return "what is written there cannot be read"
            objects.delete(name)
            if objects.read(name) is not None:  # without the right to list, S3 refuses this instead of finding nothing
                return "what is removed there stays"
        except OSError as error:
            return " ".join(str(error).split())[:300]
        return None

    def _contribute(self, name: str) -> None:
        """Bring the files that a folder has here and nowhere else to all nodes, where nobody was earlier.

        Whoever claims waits until every earlier claim can be seen; all then find the same one to be the first.
        """
        here, known = self.root / name, self._known(name)
        files = [path for path in here.iterdir() if path.is_file()] if here.is_dir() else []
        new = {path.name: _entry(path) for path in files if path.name not in known and not path.name.startswith(".")}
        if not new:
            return
        for file, entry in new.items():
            self._objects.upload(here / file, _content(name, file, entry))
        self._objects.write(f"{name}.claims/{uuid.uuid4().hex}", json.dumps(new).encode())
        time.sleep(SETTLED)
        agreed: dict[str, Entry] = {}
        for claim, _ in sorted(self._objects.names(f"{name}.claims"), key=lambda found: found[::-1]):
            agreed = _entries(self._objects.read(claim)) | agreed
        self._reveal(name, agreed)
        self._note(name, known | new)
        self.fetch(name)

    def _bring(self, name: str, manifest: dict[str, Entry]) -> bool:
        """Fetch what is lacking here; say whether it is what the manifest describes."""
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
        self._note(name, manifest)
        return True

    def _manifest(self, name: str) -> dict[str, Entry] | None:
        content = self._objects.read(f"{name}.manifest")
        return None if content is None else _entries(content)

    def _reveal(self, name: str, manifest: dict[str, Entry]) -> None:
        self._objects.write(f"{name}.manifest", json.dumps(manifest).encode())

    def _mark(self, name: str) -> Path:
        """Where the manifest of what lies here is kept."""
        path = self.root / name
        return path.with_name(f".{path.name}.manifest")

    def _known(self, name: str) -> dict[str, Entry]:
        mark = self._mark(name)
        return _entries(mark.read_bytes()) if mark.exists() else {}

    def _note(self, name: str, manifest: dict[str, Entry]) -> None:
        if self._known(name) != manifest:
            write_atomically(self._mark(name), json.dumps(manifest))


@functools.cache
def storage_at(address: str, root: Path | None = None) -> Storage:
    """Return the place at an address, or in a folder that every node sees.

    Args:
        address: what `is_address` accepts, or a folder.
        root: the folder of this process's own copy; else this node's scratch folder (SUPERSNN_SCRATCH).

    Raises:
        UserError: there can be no place at this address.
    """
    return RemoteStorage(address, root or scratch(address)) if is_address(address) else Storage(Path(address))


def is_address(text: str) -> bool:
    """Say whether a text is the address of an object store, and no folder."""
    return re.match(r"\w+:/", text) is not None


def scratch(address: str) -> Path:
    """Return where this node keeps its copy of what lies at an address: below SUPERSNN_SCRATCH, else the user's cache.

    It is this node's even where that folder is on a file system that several see.
    """
    folder = Path(os.environ.get("SUPERSNN_SCRATCH") or "~/.cache/supersnn").expanduser()
    return folder / hashlib.sha256(f"{socket.gethostname()} {address}".encode()).hexdigest()[:16]


def _content(name: str, file: str, entry: Entry) -> str:
    return f"{name}/{file}.{entry[0]}" if file else f"{name}.{entry[0]}"


def _entry(path: Path) -> Entry:
    return sha256(path), path.stat().st_size


def _entries(content: bytes | None) -> dict[str, Entry]:
    return {file: (sha, length) for file, (sha, length) in json.loads(content or b"{}").items()}
