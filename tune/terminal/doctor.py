"""Is everything here that a sweep needs? One line a finding, and whether it stands in the way."""

import importlib.metadata
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from supersnn.errors import UserError
from tune.search.budget import LOWEST_FREE
from tune.search.studies import open_storage
from tune.storage import storage_at
from tune.store import Store
from tune.versions import LIBRARIES

OURS = ("supersnn", "tune", "analysis", "supersnn_cli")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    what: str
    found: str
    ok: bool


def examine(store: Store) -> list[Finding]:
    """Look at the interpreter, the packages, the devices, the store and the studies' database; change nothing."""
    return list(_examine(store))


def _examine(store: Store) -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding("python", version, sys.version_info >= (3, 11))
    for name in LIBRARIES:
        try:
            yield Finding(name, importlib.metadata.version(name), True)
        except importlib.metadata.PackageNotFoundError:
            yield Finding(name, "not installed", False)
    owners = importlib.metadata.packages_distributions()
    for package in OURS:
        by = sorted(set(owners.get(package, [])))
        yield Finding(f"package {package}", ", ".join(by) or "not installed", by == ["supersnn"])
    yield Finding("processors", str(os.cpu_count()), True)
    yield Finding("devices", _devices(), True)
    yield _writable(store.path)
    free = shutil.disk_usage(_nearest_existing(store.path)).free
    yield Finding("free disk", f"{free / 2**30:.1f} GB", free >= LOWEST_FREE)
    yield _database(store)
    if address := os.environ.get("SUPERSNN_SHARED"):
        complaint = storage_at(address).complaint(f".doctor-{os.getpid()}")
        yield Finding("shared", f"{address}: {complaint}" if complaint else address, complaint is None)


def _devices() -> str:
    import torch

    names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return ", ".join(names) or "processors only"


def _nearest_existing(path: Path) -> Path:
    return next(folder for folder in (path, *path.parents) if folder.exists())


def _writable(path: Path) -> Finding:
    try:
        with tempfile.TemporaryFile(dir=_nearest_existing(path)):
            return Finding("store", str(path), True)
    except OSError as error:
        return Finding("store", f"{path}: cannot be written: {error.strerror}", False)


def _database(store: Store) -> Finding:
    url = os.environ.get("SUPERSNN_OPTUNA_STORAGE")
    if not url:
        return Finding("studies", "optuna.db in the store", True)
    try:
        open_storage(url)
    except UserError as error:
        return Finding("studies", str(error), False)
    return Finding("studies", "the database of SUPERSNN_OPTUNA_STORAGE", True)
