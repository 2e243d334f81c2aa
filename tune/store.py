"""The paths of a store and of a sweep's folder."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from supersnn.errors import UserError, nearest
from tune.sqlite import sqlite_url
from tune.storage import Storage, is_address, storage_at

DEFAULT = "supersnn-store"


@dataclass(frozen=True)
class SweepFolder:
    """The folder of one sweep."""

    path: Path

    @property
    def config(self) -> Path:
        """The sweep's complete configuration."""
        return self.path / "config.yaml"

    @property
    def journal(self) -> Path:
        """The journal: every event of the sweep."""
        return self.path / "journal.jsonl"

    @property
    def snapshot(self) -> Path:
        """The state that follows from a part of the journal, so that a long one is not read from its start."""
        return self.path / "state.json"

    @property
    def owner(self) -> Path:
        """The token of the driver that owns the sweep."""
        return self.path / "owner"

    @property
    def lock(self) -> Path:
        """The file lock that the driver holds while it runs."""
        return self.path / "lock"

    @property
    def requests(self) -> Path:
        """What people asked the driver for and it has not taken up yet: a file for each request."""
        return self.path / "requests"

    @property
    def verified(self) -> Path:
        """The results of the verified winners."""
        return self.path / "verified.json"

    @property
    def ledger(self) -> Path:
        """The ledger of the test images: a line for each time they were opened."""
        return self.path / "test-ledger.jsonl"

    @property
    def best(self) -> Path:
        """The export folders: one per arm, and `overall`; of several data sets in a folder each."""
        return self.path / "best"

    def export(self, arm: str, dataset: str | None = None) -> Path:
        """The export folder of an arm, or of the `overall` best one; of one of several data sets, by its label."""
        return self.best / arm if dataset is None else self.best / dataset / arm

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.path / "report.html"

    @property
    def tracking(self) -> Path:
        """The state of the replication to MLflow."""
        return self.path / "tracking"


@dataclass(frozen=True)
class Store:
    """The folder of all sweeps, and the address of an object store for nodes that do not see that folder."""

    path: Path
    shared: str | None = None

    @classmethod
    def at(cls, given: Path | None, shared: str | None = None) -> "Store":
        """Return the store at the given folder, else at SUPERSNN_STORE, else at `DEFAULT`.

        Raises:
            UserError: the folder is the address of an object store, or `shared` is not one.
        """
        folder = str(given or os.environ.get("SUPERSNN_STORE") or DEFAULT)
        if is_address(folder):
            raise UserError(f"--store {folder}: expected a folder; set --shared to the address of an object store")
        if shared is not None and not is_address(shared):
            raise UserError(
                f"--shared {shared}: expected an address, as s3://BUCKET/FOLDER; "
                "set --store to a folder that all nodes share"
            )
        return cls(Path(folder).expanduser().resolve(), shared)

    @property
    def storage(self) -> Storage:
        """The storage that driver and workers share; the driver's local copies are in the store.

        Raises:
            UserError: the address is not valid.
        """
        return storage_at(self.shared or str(self.path), self.path)

    @property
    def sweeps(self) -> Path:
        """The folder with a folder for each sweep."""
        return self.path / "sweeps"

    @property
    def optuna_url(self) -> str:
        """The URL of the studies' database."""
        return os.environ.get("SUPERSNN_OPTUNA_STORAGE") or sqlite_url(self.path / "optuna.db")

    def free_bytes(self) -> int:
        """Return the free space on the disk that the store is on, or will be."""
        existing = next(folder for folder in (self.path, *self.path.parents) if folder.exists())
        return shutil.disk_usage(existing).free

    def sweep(self, name: str) -> SweepFolder:
        """Return the folder of a sweep, which need not exist."""
        return SweepFolder(self.sweeps / name)

    def existing(self, name: str) -> SweepFolder:
        """Return the folder of an existing sweep.

        Raises:
            UserError: the sweep does not exist.
        """
        folder = self.sweep(name)
        if not folder.config.exists():
            known = self.names()
            hint = nearest(name, known) or (
                f"; its sweeps: {', '.join(known)}" if known else "; the store has no sweeps"
            )
            raise UserError(f"{self.path}: no sweep {name!r}{hint}")
        return folder

    def names(self) -> list[str]:
        """Return the names of all sweeps, sorted."""
        return sorted(folder.parent.name for folder in self.sweeps.glob("*/config.yaml"))
