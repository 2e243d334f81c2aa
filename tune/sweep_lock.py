"""One driver a sweep: its lock, and the rule by which a sweep may be continued."""

import fcntl
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress

import filelock

from supersnn.config_model import parse
from supersnn.errors import UserError
from supersnn.nested import flatten
from supersnn.plain_yaml import read_yaml
from supersnn.records.events import AnyEvent, TrialStarted
from supersnn.records.state import SweepState
from tune.description.fixed import MAY_CHANGE, dataset_digests, has_digest
from tune.description.replication import most_replicates, replicates_begun
from tune.description.searches import PlannedSearch
from tune.description.sweep import SweepConfig
from tune.store import Store, SweepFolder


@contextmanager
def locked(name: str, store: Store) -> Iterator[SweepFolder]:
    """Hold a sweep for this driver; the lock ends with the process, however that ends.

    Folders that are made for it are removed again where nothing but the lock has been written by the end of the block.

    Raises:
        UserError: another driver holds it.
    """
    folder = store.sweep(name)
    made = [path for path in (folder.path, *folder.path.parents) if not path.exists()]
    folder.path.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder.lock)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise UserError(f"sweep {name!r}: another driver is running it (it holds {folder.lock})") from error
    try:
        if not folder.lock.exists():  # a driver that was refused removed it between our opening and locking it
            raise UserError(f"sweep {name!r}: another driver was starting it; run the same command again")
        yield folder
    finally:
        if made and os.listdir(folder.path) == [folder.lock.name]:
            with suppress(OSError):
                folder.lock.unlink()
                for path in made:
                    path.rmdir()
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


def require_same_configuration(sweep: SweepConfig, folder: SweepFolder, state: SweepState) -> None:
    """Check that a sweep is continued with the configuration that it was begun with.

    That is the one whose digest the journal has; what the folder's `config.yaml` is needed for is to name the keys that
    differ. Journals of versions that recorded no digest are those of their `config.yaml`. A sweep of which nothing has
    run yet may change altogether.

    Raises:
        UserError: another value of a key that is not one of `MAY_CHANGE`.
    """
    if not state.ran:
        return
    _require_only_additions(sweep, state)
    if state.config is not None and has_digest(sweep, state.config):
        return
    stored = _stored(folder, state.config)
    if stored is None and state.config is None:
        return
    before, now = flatten(stored) if stored is not None else {}, flatten(sweep)
    different = [
        f"{key}: {before.get(key)!r} before, {now.get(key)!r} now"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key) and not key.startswith(MAY_CHANGE)
    ]
    if stored is None:
        raise UserError(
            f"sweep {sweep.name!r} already exists with a different configuration ({folder.config} is missing or was "
            "changed, so that the keys cannot be named): use a new name, or the sweep's own file"
        )
    if different:
        raise UserError(
            f"sweep {sweep.name!r} already exists with a different configuration ({'; '.join(different)}): "
            "use a new name, or restore these values"
        )


def _require_only_additions(sweep: SweepConfig, state: SweepState) -> None:
    """Check that data sets and replicates were only added: what a sweep has begun with stays.

    Raises:
        UserError: they were removed or changed, or are in another order.
    """
    digests, begun, most = dataset_digests(sweep), replicates_begun(state), most_replicates(sweep)
    labels = f"{', '.join(state.datasets)} before, {', '.join(digests) or 'none'} now"
    if list(digests)[: len(state.datasets)] != list(state.datasets):
        found = f"datasets: {labels}; they can be added at the end, and neither be removed nor change their order"
    elif changed := [label for label, before in state.datasets.items() if digests[label] != before]:
        found = f"datasets.{changed[0]}: it has other keys than before"
    elif most < begun:
        found = f"replicates: {begun} before, {most} now; they can be added, not removed"
    else:
        return
    raise UserError(f"sweep {sweep.name!r} already exists with a different configuration ({found}): use a new name")


def require_same_trainings(
    sweep: SweepConfig, searches: Mapping[str, PlannedSearch], state: SweepState, starts: Iterable[AnyEvent]
) -> None:
    """Check a sweep whose configuration is lost against the first trial of each search in its journal.

    Raises:
        UserError: the sweep's file gives another training for one of them.
    """
    checked: set[str] = set()
    for event in starts:
        if not isinstance(event, TrialStarted) or (name := state.search_name(event)) in checked:
            continue
        checked.add(name)
        now = flatten(searches[name].arm.config(event.params)) if name in searches else {}
        different = [
            f"{key}: {before!r} before, {now[key]!r} now"
            for key, before in event.config.items()
            if key in now and now[key] != before and not key.startswith(MAY_CHANGE)
        ]
        if different or not now:
            found = "; ".join(different) or f"{'arm' if name == event.arm else 'search'} {name!r} is missing"
            raise UserError(
                f"sweep {sweep.name!r} already exists with a different configuration ({found}): "
                "use a new name, or the sweep's own file"
            )


def _stored(folder: SweepFolder, expected: str | None) -> SweepConfig | None:
    """Return the configuration in `config.yaml`, None where that is missing or not the one with the expected digest.

    Raises:
        UserError: it cannot be read, and no digest is known.
    """
    if not folder.config.exists():
        return None
    try:
        stored = parse(SweepConfig, read_yaml(folder.config), str(folder.config))
    except UserError:
        if expected is None:
            raise
        return None
    return stored if expected is None or has_digest(stored, expected) else None
