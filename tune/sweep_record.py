"""The driver's side of a sweep's record: writes the journal, keeps its state, saves snapshots, informs listeners."""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress

from supersnn.records import journal, snapshot
from supersnn.records.events import AnyEvent
from supersnn.records.failure_events import DriverWaits
from supersnn.records.journal import Journal
from tune.store import SweepFolder

Listener = Callable[[AnyEvent], None]
"""Takes each event after it has been written and has become state; called in the driver's own thread."""


class SweepRecord:
    """The record of one sweep, read when it is created; the driver that holds the sweep may then write to it.

    An event is on its way to the disk before `state` has it and before any listener does.

    Attributes:
        state: what all events so far add up to.
    """

    def __init__(self, folder: SweepFolder, constraints: Mapping[str, float]) -> None:
        self.listeners: list[Listener] = []
        self._folder = folder
        self._journal: Journal | None = None
        self._complete = True
        self.state, _, self._since_snapshot = snapshot.current_state(folder.snapshot, folder.journal, constraints)

    def events(self, kinds: Collection[str]) -> Iterator[AnyEvent]:
        """Yield the events of some kinds in the journal, in order."""
        for event, _ in journal.read(self._folder.journal, kinds=kinds):
            yield event

    def open(self) -> None:
        """Begin to write; a torn last line of a killed driver is cut off."""
        self._journal = Journal(self._folder.journal)
        self._save_snapshot()

    def write(self, event: AnyEvent) -> None:
        """Append an event to the journal, apply it to the state, and pass it to the listeners."""
        assert self._journal is not None, "the record is not open"
        before = self._journal.offset
        self._complete = False  # until the state has what the journal has, should this be interrupted
        self._journal.append(event)
        self._since_snapshot += self._journal.offset - before
        self.state.apply(event)
        self._complete = True
        for listener in self.listeners:
            listener(event)
        self._save_snapshot()

    def waits(self, reason: str, paused: bool = False) -> None:
        """Record what the driver waits for, once; an empty text once it goes on. See `DriverWaits`."""
        if reason != self.state.waiting:
            self.write(DriverWaits(reason=reason, paused=paused))

    def close(self) -> None:
        """Close the journal; further events are an error."""
        assert self._journal is not None
        self._journal.close()
        self._journal = None

    def _save_snapshot(self) -> None:
        """Save a snapshot where enough was written, or read, since the last one; it is never needed."""
        if self._since_snapshot >= snapshot.INTERVAL and self._journal is not None and self._complete:
            self._since_snapshot = 0
            with suppress(OSError):
                snapshot.save(self._folder.snapshot, self._folder.journal, self._journal.offset, self.state)
