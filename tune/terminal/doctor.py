"""Check the environment that a sweep needs: one finding a line, and whether it is as required."""

import importlib.metadata
import os
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from supersnn.credentials import masked
from supersnn.errors import UserError
from supersnn.sources import registry
from supersnn.sources.base import data_root
from tune.search.budget import LOWEST_FREE
from tune.search.studies import open_storage
from tune.sqlite import sqlite_path
from tune.storage import storage_at
from tune.store import Store
from tune.tracking.client import answer
from tune.tracking.server import uri_for
from tune.versions import NOT_INSTALLED, PACKAGES, library_versions


@dataclass(frozen=True)
class Finding:
    """The result of one check: its subject, the value or fault found, and whether a sweep can run with it."""

    what: str
    found: str
    ok: bool


def examine(store: Store) -> list[Finding]:
    """Check everything that a sweep needs; change nothing."""
    return list(_examine(store))


def verdict(findings: Sequence[Finding]) -> str:
    """Return what the findings add up to, in words."""
    wrong = [finding.what for finding in findings if not finding.ok]
    return f"to be fixed: {', '.join(wrong)}" if wrong else "everything that a sweep needs is here"


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
    yield from _devices()
    yield _encoding()
    yield _writable(store.path)
    free = shutil.disk_usage(_nearest_existing(store.path)).free
    yield Finding("free disk", f"{free / 2**30:.1f} GiB", free >= LOWEST_FREE)
    yield _data()
    yield _studies(store)
    yield _mlflow(store)
    yield _ray()
    if address := os.environ.get("SUPERSNN_SHARED"):
        complaint = storage_at(address).complaint(f".doctor-{os.getpid()}")
        shown = masked(address)
        yield Finding("shared", f"{shown}: {masked(complaint, address)}" if complaint else shown, complaint is None)


def _devices() -> Iterator[Finding]:
    """Name the devices that trials use by default, and launch work with a known result on each GPU."""
    from supersnn.gpus import gpu_fault, gpu_names
    from tune.description.devices import devices_text
    from tune.description.sweep import ResourcesConfig

    names = gpu_names()
    yield Finding("devices", devices_text(ResourcesConfig(), 1, names) if names else "CPU only", True)
    for number in range(len(names)):
        fault = gpu_fault(number)
        yield Finding(f"GPU {number}", fault or "computes known results, the neurons' kernel included", fault is None)


def _encoding() -> Finding:
    """What cannot be printed is printed in another form, so that no encoding keeps a sweep from running."""
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"  # None: standard output is closed
    try:
        "±·−".encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return Finding("encoding", f"{encoding}: some characters are replaced (set PYTHONIOENCODING=utf-8)", True)
    return Finding("encoding", encoding, True)


def _nearest_existing(path: Path) -> Path:
    return next(folder for folder in (path, *path.absolute().parents) if os.path.exists(folder))


def _writable(path: Path) -> Finding:
    try:
        with tempfile.TemporaryFile(dir=_nearest_existing(path)):
            return Finding("store", str(path), True)
    except OSError as error:
        return Finding("store", f"{path}: cannot be written to: {error.strerror}", False)


def _data() -> Finding:
    """Return which data sets are here; the others are downloaded where they are needed."""
    try:
        here = [source.name for source in registry.available() if source.present]
    except OSError as error:
        return Finding("data", f"{data_root()}: {error.strerror}", False)
    return Finding("data", f"{', '.join(here)} ({data_root()})", True)


def _studies(store: Store) -> Finding:
    """Open the studies' database, where there is one: opening would create it."""
    path = sqlite_path(store.optuna_url)
    named = os.environ.get("SUPERSNN_OPTUNA_STORAGE")
    if (path is not None and not path.exists() and path.parent.is_dir()) or not (named or (path and path.exists())):
        return Finding("studies", f"{path}: will be created by the first sweep", True)
    try:
        if not named and path is not None:
            _read_sqlite(path, "studies")
        else:
            open_storage(store.optuna_url)
    except UserError as error:
        return Finding("studies", str(error), False)
    except sqlite3.Error as error:
        return Finding("studies", f"{path}: {error}", False)
    return Finding("studies", masked(named) if named else str(path), True)


def _read_sqlite(path: Path, table: str) -> None:
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        connection.execute(f"SELECT count(*) FROM {table}").fetchone()


def _mlflow(store: Store) -> Finding:
    """Ask the MLflow that sweeps would be tracked in, without creating or changing anything."""
    uri = uri_for(store.path)
    path = sqlite_path(uri)
    if path is not None and not os.path.exists(path):
        place = _writable(path.parent)
        found = f"{path}: will be created by the first sweep" if place.ok else place.found
        return Finding("MLflow", found, place.ok)
    try:
        return Finding("MLflow", answer(uri, store.path / "artifacts"), True)
    except UserError as error:
        return Finding("MLflow", str(error), False)


def _ray() -> Finding:
    """Check where Ray would run: the folder of its sockets, or the cluster of RAY_ADDRESS, which must answer."""
    from tune.execution.cluster import check_address, require_short_paths, temporary_folder

    address = os.environ.get("RAY_ADDRESS")
    try:
        if address:
            check_address(address)
            return Finding("Ray", f"cluster at {address}", True)
        require_short_paths(*temporary_folder())
    except UserError as error:
        return Finding("Ray", str(error), False)
    return Finding("Ray", f"this machine, with its files in {temporary_folder()[1]}/ray", True)
