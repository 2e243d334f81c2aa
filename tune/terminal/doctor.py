"""Check the environment that a sweep needs: one finding a line, and whether it is as required."""

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
from tune.versions import NOT_INSTALLED, PACKAGES, library_versions


@dataclass(frozen=True)
class Finding:
    """The result of one check: its subject, the value or fault found, and whether a sweep can run with it."""

    what: str
    found: str
    ok: bool


def examine(store: Store) -> list[Finding]:
    """Check the interpreter, packages, devices, store, the studies' database and object store; change nothing."""
    return list(_examine(store))


def _examine(store: Store) -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding("python", version, sys.version_info >= (3, 11))
    for library, installed in library_versions().items():
        yield Finding(library, installed, installed != NOT_INSTALLED)
    distributions = importlib.metadata.packages_distributions()
    for package in PACKAGES:
        owners = sorted(set(distributions.get(package, [])))
        yield Finding(f"package {package}", ", ".join(owners) or NOT_INSTALLED, owners == ["supersnn"])
    yield Finding("CPUs", str(os.cpu_count()), True)
    yield Finding("devices", _devices(), True)
    yield _writable(store.path)
    free = shutil.disk_usage(_nearest_existing(store.path)).free
    yield Finding("free disk", f"{free / 2**30:.1f} GiB", free >= LOWEST_FREE)
    yield _database()
    if address := os.environ.get("SUPERSNN_SHARED"):
        complaint = storage_at(address).complaint(f".doctor-{os.getpid()}")
        yield Finding("shared", f"{address}: {complaint}" if complaint else address, complaint is None)


def _devices() -> str:
    import torch

    names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return ", ".join(names) or "CPU only"


def _nearest_existing(path: Path) -> Path:
    return next(folder for folder in (path, *path.parents) if folder.exists())


def _writable(path: Path) -> Finding:
    try:
        with tempfile.TemporaryFile(dir=_nearest_existing(path)):
            return Finding("store", str(path), True)
    except OSError as error:
        return Finding("store", f"{path}: cannot be written to: {error.strerror}", False)


def _database() -> Finding:
    url = os.environ.get("SUPERSNN_OPTUNA_STORAGE")
    if not url:
        return Finding("studies", "optuna.db in the store", True)
    try:
        open_storage(url)
    except UserError as error:
        return Finding("studies", str(error), False)
    return Finding("studies", "the database of SUPERSNN_OPTUNA_STORAGE", True)
