"""Entry points to the tables: a sweep's folder, several sweeps of a store, or an MLflow server."""

import json
import os
from pathlib import Path
from typing import Any

from analysis.build import build, constraints
from analysis.journal import read
from analysis.tables import Sweep, SweepCollection, collect
from supersnn.config_model import read_yaml
from supersnn.errors import UserError

DEFAULT_STORE = "supersnn-store"


def sweep(folder: Path | str, cache: bool = True) -> Sweep:
    """Return the tables of the sweep in a folder of the store, finished or running.

    Args:
        folder: holds `config.yaml`, `journal.jsonl` and, once there are any, `verified.json`, `test-ledger.jsonl`.
        cache: read and refresh the folder's `cache/`.

    Raises:
        UserError: the folder holds no sweep.
    """
    folder = Path(folder)
    if not (folder / "config.yaml").exists() and not (folder / "journal.jsonl").exists():
        raise UserError(f"{folder}: not a sweep: expected a folder with config.yaml and journal.jsonl")
    config = read_yaml(folder / "config.yaml") if (folder / "config.yaml").exists() else {}
    record = read(folder / "journal.jsonl", constraints(config), folder / "cache" if cache else None)
    verified, faults = _json(folder / "verified.json")
    ledger, more = _json_lines(folder / "test-ledger.jsonl")
    record.faults.extend([*faults, *more])
    return build(str(config.get("name") or folder.resolve().name), config, record, verified, ledger)


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
    known = sorted(path.name for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
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
    return build(str(config.get("name") or experiment), config, record, {}, [])


def _folder(root: Path, name: Path | str, known: list[str]) -> Path:
    for folder in (root / name, Path(name)):
        if (folder / "config.yaml").exists() or (folder / "journal.jsonl").exists():
            return folder
    raise UserError(f"{name}: no such sweep in {root}; known: {', '.join(known) or 'none'}")


def _json(path: Path) -> tuple[dict[str, Any], list[str]]:
    """Return a JSON mapping and the file's faults; a missing file is empty."""
    try:
        data = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        return (data, []) if isinstance(data, dict) else ({}, [f"{path.name}: expected a mapping"])
    except ValueError as error:
        return {}, [f"{path.name}: not valid JSON: {error}"]


def _json_lines(path: Path) -> tuple[list[dict[str, Any]], list[str]]:
    rows, faults = [], []
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            rows.append(dict(json.loads(line)))
        except (ValueError, TypeError) as error:
            faults.append(f"{path.name}, line {number}: {error}")
    return rows, faults
