"""Where everything of a store and of a sweep lies. Paths only."""

import os
from dataclasses import dataclass
from pathlib import Path

from supersnn.errors import UserError, nearest
from tune.storage import Storage, is_address, storage_at

DEFAULT = "supersnn-store"


@dataclass(frozen=True)
class SweepFolder:
    """The folder of one sweep."""

    path: Path

    @property
    def config(self) -> Path:
        """The sweep as it was given, complete."""
        return self.path / "config.yaml"

    @property
    def journal(self) -> Path:
        """Every event."""
        return self.path / "journal.jsonl"

    @property
    def snapshot(self) -> Path:
        """The state that follows from a part of the journal, so that a long one is not read from its start."""
        return self.path / "state.json"

    @property
    def owner(self) -> Path:
        """The token of the driver that the sweep belongs to."""
        return self.path / "owner"

    @property
    def lock(self) -> Path:
        """Held by the driver while it lives."""
        return self.path / "lock"

    @property
    def verified(self) -> Path:
        """The verified results."""
        return self.path / "verified.json"

    @property
    def ledger(self) -> Path:
        """Each opening of the test images."""
        return self.path / "test-ledger.jsonl"

    @property
    def best(self) -> Path:
        """The export folders, one an arm and `overall`."""
        return self.path / "best"

    @property
    def report(self) -> Path:
        """The page."""
        return self.path / "report.html"

    @property
    def tracking(self) -> Path:
        """How far MLflow has been told."""
        return self.path / "tracking"


@dataclass(frozen=True)
class Store:
    """The folder that all sweeps share, and the address of what nodes exchange where they do not see it."""

    path: Path
    shared: str | None = None

    @classmethod
    def at(cls, given: Path | None, shared: str | None = None) -> "Store":
        """Return the store that was named, else the environment's SUPERSNN_STORE, else the usual one.

        Raises:
            UserError: it is an address of an object store, or `shared` is none.
        """
        folder = str(given or os.environ.get("SUPERSNN_STORE") or DEFAULT)
        if is_address(folder):
            raise UserError(f"--store {folder}: expected a folder; the address of an object store goes to --shared")
        if shared is not None and not is_address(shared):
            raise UserError(
                f"--shared {shared}: expected an address, as s3://BUCKET/FOLDER; "
                "a folder that all nodes see goes to --store"
            )
        return cls(Path(folder).expanduser().resolve(), shared)

    @property
    def storage(self) -> Storage:
        """What driver and workers exchange; the driver's own copy of it is the store.

        Raises:
            UserError: there can be none at the address.
        """
        return storage_at(self.shared or str(self.path), self.path)

    @property
    def sweeps(self) -> Path:
        """The folder with a folder for each sweep."""
        return self.path / "sweeps"

    @property
    def optuna_url(self) -> str:
        """The address of the studies' database."""
        return os.environ.get("SUPERSNN_OPTUNA_STORAGE") or f"sqlite:///{self.path / 'optuna.db'}"

    def sweep(self, name: str) -> SweepFolder:
        """Return the folder of a sweep, which need not be there."""
        return SweepFolder(self.sweeps / name)

    def existing(self, name: str) -> SweepFolder:
        """Return the folder of a sweep that is there.

        Raises:
            UserError: there is no such sweep.
        """
        folder = self.sweep(name)
        if not folder.config.exists():
            known = self.names()
            hint = nearest(name, known) or (f"; there are: {', '.join(known)}" if known else "; there is none yet")
            raise UserError(f"{self.path}: no sweep {name!r}{hint}")
        return folder

    def names(self) -> list[str]:
        """Return the names of the sweeps that are there, sorted."""
        return sorted(folder.parent.name for folder in self.sweeps.glob("*/config.yaml"))
