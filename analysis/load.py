"""Entry points to the tables: a sweep's folder, several sweeps of a store, or an MLflow server."""

import os
from pathlib import Path

from analysis import stored
from analysis.build import build, constraints
from analysis.journal import read
from analysis.tables import Sweep, SweepCollection, collect
from supersnn.errors import UserError

DEFAULT_STORE = "supersnn-store"


def sweep(folder: Path | str, cache: bool = True) -> Sweep:
    """Return the tables of the sweep in a folder of the store, finished or running.

    Files that are damaged or missing are no error: what they would say is left out and reported in `problems`.

    Args:
        folder: holds `config.yaml`, `journal.jsonl` and, once there are any, `verified.json`, `test-ledger.jsonl`.
        cache: read and refresh the folder's `cache/`.

    Raises:
        UserError: the folder holds no sweep.
    """
    folder = Path(folder)
    try:
        found = [name for name in ("config.yaml", "journal.jsonl") if (folder / name).exists()]
    except OSError as error:
        raise UserError(f"{folder}: cannot be read: {error.strerror}") from error
    if not found:
        raise UserError(f"{folder}: not a sweep: expected a folder with config.yaml and journal.jsonl")
    config, faults = stored.sweep_file(folder / "config.yaml")
    record = read(folder / "journal.jsonl", constraints(config), folder / "cache" if cache else None)
    verified, of_verified = stored.verified(folder / "verified.json")
    ledger, of_ledger = stored.ledger(folder / "test-ledger.jsonl")
    record.faults.extend([*faults, *of_verified, *of_ledger])
    return build(config.get("name") or folder.resolve().name, config, record, verified, ledger)


def sweeps(*names: Path | str, store: Path | str | None = None, cache: bool = True) -> SweepCollection:
    """Return the tables of several sweeps, concatenated; iterating over the result gives the sweeps.

    Args:
        names: names of sweeps in the store, or paths of their folders; none means every sweep of the store.
        store: the store's folder; else the environment's `SUPERSNN_STORE`, else `supersnn-store`.
        cache: as in `sweep`.

    Raises:
        UserError: a name that is neither in the store nor a folder.
    """
    root = Path(store or os.environ.get("SUPERSNN_STORE") or DEFAULT_STORE) / "sweeps"
    try:
        known = sorted(path.name for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    except OSError as error:
        raise UserError(f"{root}: cannot be read: {error.strerror}") from error
    if not (names or known):
        raise UserError(f"{root}: no sweeps found")
    return collect(sweep(_folder(root, name, known), cache) for name in (names or known))


def from_mlflow(tracking_uri: str, experiment: str) -> Sweep:
    """Return the tables of the latest sweep of an experiment on an MLflow server, or in its database.

    MLflow does not keep the test ledger, the rankings, the refitted teachers and what the teacher caches cost.

    Raises:
        UserError: there is no such experiment, no sweep in it, or no server.
    """
    from analysis import server

    config, record = server.read(tracking_uri, experiment)
    return build(config.get("name") or experiment, config, record)


def _folder(root: Path, name: Path | str, known: list[str]) -> Path:
    for folder in (root / name, Path(name)):
        if (folder / "config.yaml").exists() or (folder / "journal.jsonl").exists():
            return folder
    raise UserError(f"{name}: no such sweep in {root}; known: {', '.join(known) or 'none'}")
