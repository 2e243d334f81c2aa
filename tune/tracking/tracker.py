"""The thread that tells MLflow what the journal says, as fast as MLflow takes it, and keeps its place on disk.

The journal is the spool: while a server is away the place stands still, after a killed driver the events behind
the last place are said again, and a server that was never told anything is told everything.
"""

import json
import threading
import time
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Self

from supersnn.config_model import digest
from supersnn.errors import UserError
from supersnn.files import write_atomically
from supersnn.records.pairing import family
from tune.description.sweep import SweepConfig
from tune.journal import read
from tune.store import Store, SweepFolder
from tune.tracking.changes import Change
from tune.tracking.client import Connection, RefusedError, connect, reason, shown
from tune.tracking.server import uri_for
from tune.tracking.tree import Tree

INTERVAL = 2.0
"""Seconds between two looks at the journal: what comes up in between is said in one call a run."""
EVENTS_AT_ONCE = 500
LONGEST_WAIT = 15.0
"""Seconds between two attempts at a server that is away; the first waits are shorter."""


class Tracker:
    """Follows one sweep's journal. It never raises into the sweep, except from `wait_connected`."""

    def __init__(
        self,
        journal_path: Path,
        folder: Path,
        uri: str,
        experiment: str,
        sweep_config: Mapping[str, Any],
        artifact_root: Path | None = None,
    ) -> None:
        self._journal, self._folder, self._uri = journal_path, folder, uri
        self._experiment, self._artifact_root = experiment, artifact_root
        self._place = folder / f"{digest(uri)}.json"
        self._told = _read_place(self._place).get("offset", 0)
        self._tree = Tree(experiment, sweep_config, journal_path.parent, family)
        self._trouble: str | None = None
        self._failure: UserError | None = None
        self._connected, self._closing, self._abandoned = threading.Event(), threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="mlflow-tracker", daemon=True)

    @classmethod
    def start(
        cls,
        journal_path: Path,
        folder: Path,
        uri: str,
        experiment: str,
        sweep_config: Mapping[str, Any],
        artifact_root: Path | None = None,
    ) -> Self:
        """Begin to follow a journal and return at once: MLflow is imported and connected to in the background.

        `folder` keeps the place, `sweep_config` is the sweep as plain nested values, `artifact_root` is where the
        artifacts of a database go (a server has its own place).
        """
        tracker = cls(journal_path, folder, uri, experiment, sweep_config, artifact_root)
        tracker._thread.start()
        return tracker

    def wait_connected(self, timeout: float = 120.0) -> None:
        """Return once MLflow has answered.

        Raises:
            UserError: it cannot be reached, does not let us write, or took longer than `timeout` seconds.
        """
        if not self._connected.wait(timeout):
            raise UserError(f"MLflow at {shown(self._uri)} did not answer within {timeout:g} s")
        if self._failure:
            raise self._failure

    def pending(self) -> int:
        """Return how many events MLflow has not been told yet."""
        if not self._journal.exists():
            return 0
        with self._journal.open("rb") as file:
            file.seek(self._told)
            return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))

    def trouble(self) -> str | None:
        """Return why MLflow is not being told at the moment, None while all is well."""
        return self._trouble

    def close(self, timeout: float = 30.0) -> int:
        """Tell what is left and stop; return how many events are still pending.

        As long as MLflow takes what it is told this waits; for one that is away it waits `timeout` seconds at most.
        """
        self._closing.set()
        patience = time.monotonic() + timeout
        while self._thread.is_alive() and time.monotonic() < patience:
            self._thread.join(0.2)
            if self._connected.is_set() and self._trouble is None:
                patience = time.monotonic() + timeout
        self._abandoned.set()
        return self.pending()

    def _run(self) -> None:
        try:
            connection = connect(self._uri, self._experiment, self._artifact_root)
            self._resume(connection)
        except UserError as error:
            self._failure = error
            return
        finally:
            self._connected.set()
        try:
            self._follow(connection)
        except Exception as error:
            self._trouble = f"tracking has stopped: {type(error).__name__}: {reason(error)}"

    def _resume(self, connection: Connection) -> None:
        """Read again, in silence, what this experiment was told by earlier drivers."""
        place = _read_place(self._place)
        told = place["offset"] if place.get("identity") == connection.identity else 0
        self._told = 0
        for event, offset in read(self._journal):
            if offset > told:
                break
            self._read(event)
            self._told = offset
        self._tree.take()

    def _follow(self, connection: Connection) -> None:
        while not self._abandoned.is_set():
            last_look = self._closing.is_set()
            events = list(islice(read(self._journal, self._told), EVENTS_AT_ONCE))
            for event, _ in events:
                self._read(event)
            if events:
                if not all(self._say(connection, change) for change in self._tree.take()):
                    return
                self._told = events[-1][1]
                write_atomically(self._place, json.dumps({"identity": connection.identity, "offset": self._told}))
            elif last_look:
                return
            else:
                self._closing.wait(INTERVAL)

    def _read(self, event: Mapping[str, Any]) -> None:
        try:
            self._tree.read(event)
        except (KeyError, TypeError, ValueError, UserError) as error:
            self._note(f"event {json.dumps(event)[:200]}", f"{type(error).__name__}: {error}")

    def _say(self, connection: Connection, change: Change) -> bool:
        """Say a change until it is taken or refused; return False if the driver would wait no longer."""
        wait = 0.5
        while True:
            try:
                connection.say(change)
            except RefusedError as error:
                self._note(f"run {change.run.key}", str(error))
            except Exception as error:
                self._trouble = reason(error)
                wait = min(2 * wait, 1.0 if self._closing.is_set() else LONGEST_WAIT)
                if self._abandoned.wait(wait):
                    return False
                continue
            self._trouble = None
            return True

    def _note(self, what: str, why: str) -> None:
        """Write down what MLflow will never show, beside the place."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "refused.log").open("a", encoding="utf-8") as file:
            file.write(f"{what}: {why}\n")


def start(folder: SweepFolder, store: Store, sweep: SweepConfig) -> Tracker:
    """Begin to follow a sweep's journal, into the store's own MLflow or the one that MLFLOW_TRACKING_URI names."""
    config = sweep.model_dump(mode="json")
    uri = uri_for(store.path)
    return Tracker.start(folder.journal, folder.tracking, uri, sweep.name, config, store.path / "artifacts")


def behind(folder: SweepFolder, store: Store) -> bool:
    """Say, without asking MLflow, whether it has yet to be told something of a sweep's journal."""
    place = _read_place(folder.tracking / f"{digest(uri_for(store.path))}.json")
    return folder.journal.exists() and place.get("offset", 0) < folder.journal.stat().st_size


def _read_place(path: Path) -> dict[str, Any]:
    try:
        place: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return {}
    return place
