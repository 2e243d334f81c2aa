"""The thread that follows the journal and sends its events to MLflow, as fast as MLflow takes them.

The journal is the buffer: while a server is away the position in it does not move, after a killed driver the events
behind the last saved position are sent again, and a server that is new is sent all of them.

Files in the sweep's folder `tracking/`, by a digest of the MLflow's address: `DIGEST.json` (the position) and
`DIGEST.snapshot` (the state at an earlier position). `refused.log` lists the runs that MLflow refused, and the lines
of the journal that are no event.
"""

import contextlib
import dataclasses
import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Self

from supersnn.credentials import masked
from supersnn.digests import digest
from supersnn.errors import UserError
from supersnn.files import write_atomically
from supersnn.records import journal, snapshot
from supersnn.records.events import AnyEvent, SweepStarted
from supersnn.records.lines import complete_length
from tune.description.sweep import SweepConfig
from tune.store import Store, SweepFolder
from tune.tracking.changes import Change
from tune.tracking.client import Connection, RefusedError, connect, root_cause
from tune.tracking.server import uri_for
from tune.tracking.tree import Tree

INTERVAL = 2.0
"""Seconds between two reads of the journal: the events in between are sent in one request a run."""
EVENTS_AT_ONCE = 500
LONGEST_WAIT = 15.0
"""Seconds between two attempts at a server that is away; the first waits are shorter."""


class Tracker:
    """Follows one sweep's journal. It never raises into the sweep, except from `wait_connected`.

    `notices` are lines about what was done to the store's own database, once it is connected.
    """

    def __init__(
        self,
        folder: SweepFolder,
        uri: str,
        experiment: str,
        sweep_config: Mapping[str, Any],
        artifact_root: Path | None = None,
    ) -> None:
        """Prepare to follow a sweep; `start` begins.

        Args:
            folder: of the sweep.
            uri: of an MLflow server or database.
            experiment: its name there.
            sweep_config: the sweep as plain nested values.
            artifact_root: the folder of a database's artifacts; a server has its own.
        """
        self._folder, self._uri = folder, uri
        self._experiment, self._artifact_root = experiment, artifact_root
        self._position = _position_path(folder, uri)
        self._snapshot = self._position.with_suffix(".snapshot")
        self._offset = _Position.load(self._position).offset
        self._saved = 0
        self._tree = Tree(experiment, sweep_config, folder.path)
        self.notices: tuple[str, ...] = ()
        self._trouble: str | None = None
        self._failure: UserError | None = None
        self._connected, self._closing, self._abandoned = threading.Event(), threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="mlflow-tracker", daemon=True)

    def start(self) -> Self:
        """Begin to follow the journal and return at once: MLflow is imported and connected to in the background."""
        self._thread.start()
        return self

    def wait_connected(self, timeout: float = 120.0) -> None:
        """Return once MLflow has answered.

        Raises:
            UserError: it cannot be reached, refuses the credentials, or took longer than `timeout` seconds.
        """
        if not self._connected.wait(timeout):
            raise UserError(f"MLflow at {masked(self._uri)} did not answer within {timeout:g} s")
        if self._failure:
            raise self._failure

    def pending(self) -> int:
        """Return how many lines of the journal have not been sent yet."""
        if not self._folder.journal.exists():
            return 0
        with self._folder.journal.open("rb") as file:
            file.seek(self._offset)
            return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))

    def trouble(self) -> str | None:
        """Return why nothing can be sent at the moment, None while all is well."""
        return self._trouble

    def close(self, timeout: float = 30.0, wait: bool = True) -> int:
        """Send the rest and stop; return how many events are still pending.

        Waits as long as MLflow accepts changes, and at most `timeout` seconds for a server that is away; without `wait`
        at most `timeout` seconds in any case.
        """
        self._closing.set()
        deadline = time.monotonic() + timeout
        while self._thread.is_alive() and time.monotonic() < deadline:
            self._thread.join(0.2)
            if wait and self._connected.is_set() and self._trouble is None:
                deadline = time.monotonic() + timeout
        self._abandoned.set()
        return self.pending()

    def _run(self) -> None:
        try:
            connection = connect(self._uri, self._experiment, self._artifact_root)
            self.notices = connection.notices
            self._resume(connection)
        except UserError as error:
            self._failure = error
            return
        finally:
            self._connected.set()
        try:
            self._follow(connection)
        except Exception as error:
            self._trouble = f"tracking has stopped: {type(error).__name__}: {root_cause(error)}"

    def _resume(self, connection: Connection) -> None:
        """Rebuild the state that follows from the events which earlier drivers have sent to this experiment."""
        position = _Position.load(self._position)
        sent = position.offset if position.identity == connection.identity else 0
        self._offset = self._saved = self._restore(sent)
        for event, offset in journal.read(self._folder.journal, self._offset):
            if offset > sent:
                break
            self._tree.skip(event)
            self._offset = offset
        self._save_snapshot()

    def _restore(self, sent: int) -> int:
        """Load the snapshot where it is not ahead of what was sent; return its offset, 0 without one."""
        loaded = snapshot.load(self._snapshot, self._folder.journal)
        if loaded is None:
            return 0
        state, offset = loaded
        first = _first_start(self._folder.journal)
        if first is None or offset > sent or state.constraints != self._tree.state.constraints:
            return 0
        self._tree.restore(first, state)
        return offset

    def _follow(self, connection: Connection) -> None:
        while not self._abandoned.is_set():
            closing = self._closing.is_set()
            offset = self._read_events()
            if offset > self._offset:
                if not all(self._send(connection, change) for change in self._tree.take()):
                    return
                self._offset = offset
                _Position(offset, connection.identity).save(self._position)
                self._save_snapshot()
            elif closing:
                return
            else:
                self._closing.wait(INTERVAL)

    def _read_events(self) -> int:
        """Take the next events into the tree; return the offset behind them, and behind lines that are no event."""
        path, faults = self._folder.journal, list[str]()
        end = complete_length(path)
        events = list(islice(journal.read(path, self._offset, faults=faults), EVENTS_AT_ONCE))
        for fault in faults:
            self._note(fault)
        for event, _ in events:
            self._read(event)
        last = events[-1][1] if events else self._offset
        return last if len(events) == EVENTS_AT_ONCE else max(last, end)

    def _read(self, event: AnyEvent) -> None:
        try:
            self._tree.read(event)
        except (LookupError, TypeError, ValueError) as error:
            line = event.model_dump_json(by_alias=True)[:200]
            self._note(f"event {line}: {type(error).__name__}: {error}")

    def _send(self, connection: Connection, change: Change) -> bool:
        """Send a change until it is accepted or refused; return False if the driver would wait no longer."""
        wait = 0.5
        while True:
            try:
                connection.send(change)
            except RefusedError as error:
                self._note(f"run {change.run.key}: {error}")
            except Exception as error:
                self._trouble = root_cause(error)
                wait = min(2 * wait, 1.0 if self._closing.is_set() else LONGEST_WAIT)
                if self._abandoned.wait(wait):
                    return False
                continue
            self._trouble = None
            return True

    def _save_snapshot(self) -> None:
        """Save the state where much of the journal was read since the last snapshot."""
        if self._offset - self._saved >= snapshot.INTERVAL:
            with contextlib.suppress(OSError):
                snapshot.save(self._snapshot, self._folder.journal, self._offset, self._tree.state)
            self._saved = self._offset

    def _note(self, text: str) -> None:
        """Write to refused.log, once, what MLflow will never show."""
        path = self._folder.tracking / "refused.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+", encoding="utf-8") as file:
            file.seek(0)
            if f"{text}\n" not in file:
                file.write(f"{text}\n")


def start(folder: SweepFolder, store: Store, sweep: SweepConfig) -> Tracker:
    """Begin to follow a sweep's journal, into MLFLOW_TRACKING_URI or else the store's own MLflow."""
    config = sweep.model_dump(mode="json")
    return Tracker(folder, uri_for(store.path), sweep.name, config, store.path / "artifacts").start()


def behind(folder: SweepFolder, store: Store) -> bool:
    """Return, without a request to MLflow, whether a part of a sweep's journal has yet to be sent to it."""
    position = _Position.load(_position_path(folder, uri_for(store.path)))
    return position.offset < complete_length(folder.journal)


def _position_path(folder: SweepFolder, uri: str) -> Path:
    """The file that keeps how much of the journal was sent to one MLflow."""
    return folder.tracking / f"{digest(uri)}.json"


@dataclass(frozen=True)
class _Position:
    """How much of a journal, in bytes, was sent to which experiment; nothing to none where that is not known."""

    offset: int = 0
    identity: str = ""

    @classmethod
    def load(cls, path: Path) -> "_Position":
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            return cls(int(stored["offset"]), str(stored["identity"]))
        except (OSError, ValueError, TypeError, LookupError):
            return cls()

    def save(self, path: Path) -> None:
        write_atomically(path, json.dumps(dataclasses.asdict(self)))


def _first_start(path: Path) -> SweepStarted | None:
    events = (event for event, _ in journal.read(path, kinds=("sweep",)))
    return next((event for event in events if isinstance(event, SweepStarted)), None)
