"""Removals from an object store that wait for each other: in a thread, with few requests for many folders."""

import os
import threading
from collections.abc import Sequence
from fnmatch import fnmatch

from tune.object_store import ObjectStore

EVERY = 20.0
"""Seconds in which removals are collected."""

Removal = tuple[str, str]
"""A folder, and a pattern of the names of its objects."""


class Removals:
    """Removes objects by folder and pattern, manifests first: a manifest names no content that is gone.

    Those of several folders are found in one listing of the folder that these are in, and deleted together. What fails
    is tried again with the next ones.
    """

    def __init__(self, objects: ObjectStore, every: float = EVERY) -> None:
        self._objects, self._every = objects, every
        self._changed = threading.Condition()
        self._waiting: list[Removal] = []
        self._at_work = self._hurry = False
        self._error: Exception | None = None
        self._thread: threading.Thread | None = None

    def now(self, removals: Sequence[Removal]) -> None:
        """Remove objects, and return when they are gone.

        Raises:
            OSError: the store cannot be reached, or refuses.
        """
        names = sorted(self._names(removals))
        self._objects.delete([name for name in names if name.endswith(".manifest")])
        self._objects.delete([name for name in names if not name.endswith(".manifest")])

    def later(self, folder: str, pattern: str) -> None:
        """Remove a folder's objects whose names match, soon, in the thread."""
        with self._changed:
            self._waiting.append((folder, pattern))
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="removals", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def flush(self) -> None:
        """Remove at once what is to be removed later, and return when it is gone.

        Raises:
            OSError: the store cannot be reached, or refuses.
        """
        with self._changed:
            self._hurry, self._error = True, None
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._error is not None or not (self._waiting or self._at_work))
            self._hurry = False
            if self._error is not None:
                raise self._error

    def _names(self, removals: Sequence[Removal]) -> set[str]:
        """Return the names of the objects to be removed."""
        if not removals:
            return set()
        common = os.path.commonpath([folder for folder, _ in removals])
        patterns: dict[str, set[str]] = {}
        for folder, pattern in removals:
            patterns.setdefault(folder, set()).add(pattern)
        found = set()
        for name, _ in self._objects.names(common, recursive=len(patterns) > 1):
            folder, _, file = name.rpartition("/")
            if any(fnmatch(file, pattern) for pattern in patterns.get(folder, ())):
                found.add(name)
        return found

    def _work(self) -> None:
        """Remove what waits, as long as the process lives."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._waiting))
                self._changed.wait_for(lambda: self._hurry, timeout=self._every)
                removals, self._waiting, self._at_work = self._waiting, [], True
            error: Exception | None = None
            try:
                self.now(removals)
            except Exception as raised:
                error = raised
            with self._changed:
                self._waiting[:0] = removals if error is not None else ()
                self._at_work, self._error = False, error
                self._hurry = self._hurry and error is None
                self._changed.notify_all()
