"""One driver a sweep: its lock, and the rule by which a sweep may be continued."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

import filelock

from supersnn.config_model import flatten, parse, read_yaml, to_yaml
from supersnn.errors import UserError
from supersnn.files import write_atomically
from tune.description.sweep import SweepConfig
from tune.store import Store, SweepFolder

MAY_CHANGE = ("search.trials", "search.hours", "search.gpu_hours", "verify.seeds", "resources.")
"""Prefixes of the keys that a sweep may be continued with another value of."""


@contextmanager
def locked(sweep: SweepConfig, store: Store) -> Iterator[SweepFolder]:
    """Hold a sweep for this driver, and store its description; the lock ends with the process, however that ends.

    Raises:
        UserError: another driver holds it, or it exists with a different configuration.
    """
    folder = store.sweep(sweep.name)
    folder.path.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder.lock)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise UserError(f"sweep {sweep.name!r}: another driver is running it (it holds {folder.lock})") from error
    try:
        _require_same_configuration(sweep, folder)
        write_atomically(folder.config, to_yaml(sweep))
        yield folder
    finally:
        lock.release()


def is_locked(folder: SweepFolder) -> bool | None:
    """Return whether a driver holds the sweep, None where that cannot be told; nothing is created or written."""
    try:
        file = os.open(folder.lock, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # the file system has no locks
        return None
    finally:
        os.close(file)
    return False


def _require_same_configuration(sweep: SweepConfig, folder: SweepFolder) -> None:
    if not folder.config.exists():
        return
    before = flatten(parse(SweepConfig, read_yaml(folder.config), str(folder.config)))
    now = flatten(sweep)
    different = [
        f"{key}: {before.get(key)!r} before, {now.get(key)!r} now"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key) and not key.startswith(MAY_CHANGE)
    ]
    if different:
        raise UserError(
            f"sweep {sweep.name!r} already exists with a different configuration ({'; '.join(different)}): "
            "use a new name, or restore these values"
        )
