"""Sweeps from Python: run one, load one from a store, and follow the events of one while it runs."""

import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supersnn.config_model import parse
from supersnn.errors import UserError
from supersnn.plain_yaml import read_yaml
from supersnn.records import journal
from supersnn.records.events import AnyEvent
from supersnn.records.snapshot import current_state
from supersnn.records.state import SweepState
from tune.description.sweep import SweepConfig
from tune.description.sweep import load as load_file
from tune.store import Store, SweepFolder
from tune.sweep_lock import is_locked

if TYPE_CHECKING:
    from analysis.tables import Sweep as Tables

StorePath = str | os.PathLike[str] | None


@dataclass(frozen=True, repr=False)
class Sweep:
    """A sweep in a store, running or not; everything is read from its files when it is asked for.

    Attributes:
        folder: its files.
        config: its description.
    """

    folder: SweepFolder
    config: SweepConfig

    def __repr__(self) -> str:
        """Return its name, and how many trials its arms have."""
        counts = {name: len(search.trials) for name, search in self.state().searches.items()}
        shown = ", ".join(f"{name}: {count}" for name, count in counts.items()) or "none"
        return f"Sweep({self.config.name!r} in {str(self.folder.path)!r}; trials {shown})"

    def state(self) -> SweepState:
        """Return what its events add up to."""
        return current_state(self.folder.snapshot, self.folder.journal, self.config.search.constraints)[0]

    def tables(self) -> "Tables":
        """Return its tables as pandas data frames; the columns are documented in `analysis/tables.py`."""
        from analysis import load_sweep

        return load_sweep(self.folder.path)

    def results(self) -> dict[str, Any]:
        """Return its results, as `supersnn report --json` prints them."""
        from analysis import sweep_results

        return sweep_results(self.tables())

    def best(self) -> Path:
        """Return the export folder of the best arm.

        Raises:
            UserError: there is none yet.
        """
        folder = self.folder.best / "overall"
        if not folder.is_dir():
            raise UserError(f"sweep {self.config.name!r}: no arm has been exported yet")
        return folder


def run(
    sweep: SweepConfig | Mapping[str, Any] | str | os.PathLike[str],
    store: StorePath = None,
    *,
    local: bool = False,
    address: str | None = None,
    shared: str | None = None,
) -> Sweep:
    """Run a sweep, or continue it, as `supersnn sweep` does; return it when it has ended.

    Args:
        sweep: its description: an object, plain values with the keys of a sweep file, or the path of a file.
        store: the store's folder; by default that of SUPERSNN_STORE, else `supersnn-store`.
        local: run in this process, without Ray.
        address: of a Ray cluster to join.
        shared: the object store that nodes exchange files through.

    Raises:
        UserError: the description is wrong, or something that the sweep needs is missing.
    """
    from analysis import load_sweep, write_html
    from tune.terminal.launch import launch

    described, origin = _described(sweep)
    result = launch(described, _store(store, shared), origin, address, local)
    if result.worked or not result.folder.report.exists():
        write_html([load_sweep(result.folder.path)], result.folder.report)
    return Sweep(result.folder, described)


def load(store: StorePath, name: str) -> Sweep:
    """Return a sweep of a store.

    Raises:
        UserError: the store has no such sweep, or its description cannot be read.
    """
    folder = _store(store).existing(name)
    return Sweep(folder, parse(SweepConfig, read_yaml(folder.config), str(folder.config)))


def follow(
    store: StorePath, name: str, *, live: bool = True, wait: float = 0.0, every: float = 0.5
) -> Iterator[AnyEvent]:
    """Yield the events of a sweep (`supersnn.records.events`) from its start, and further ones while a driver works.

    The iteration ends when everything has been read and no driver holds the sweep. It may run in any process that sees
    the store; nothing is written. An epoch may occur twice after a crash, with the same content.

    Args:
        store: the store's folder.
        name: of the sweep.
        live: go on while a driver works.
        wait: seconds to wait for a sweep that has not been started yet.
        every: seconds between two looks at the journal.

    Raises:
        UserError: there is no such sweep, and none appeared in time.
    """
    folder, deadline = _store(store).sweep(name), time.monotonic() + wait
    while not folder.journal.exists():
        if time.monotonic() > deadline:
            raise UserError(f"sweep {name!r}: no journal in {folder.path}; nothing has been started there")
        time.sleep(min(every, 0.1))
    offset = 0
    while True:
        working = live and is_locked(folder) is not False
        for event, end in journal.read(folder.journal, offset):
            yield event
            offset = end
        if not working:
            return
        time.sleep(every)


def _store(store: StorePath, shared: str | None = None) -> Store:
    return Store.at(None if store is None else Path(store), shared)


def _described(sweep: SweepConfig | Mapping[str, Any] | str | os.PathLike[str]) -> tuple[SweepConfig, str]:
    if isinstance(sweep, SweepConfig):
        return sweep, "sweep"
    if isinstance(sweep, Mapping):
        return parse(SweepConfig, json.loads(json.dumps(sweep)), "sweep"), "sweep"
    return load_file(Path(sweep)), str(sweep)
