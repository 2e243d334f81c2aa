"""Fetches from an object store that nobody waits for: in a thread, one after the other."""

import threading
from collections import deque
from collections.abc import Callable


class Fetches:
    """Fetches what is named, soon; what could not be fetched is tried again by `flush`."""

    def __init__(self, fetch: Callable[[str], object]) -> None:
        """Fetch by a function, which is called in a thread."""
        self._fetch = fetch
        self._changed = threading.Condition()
        self._waiting: deque[str] = deque()
        self._failed: list[str] = []
        self._at_work = False

    def later(self, name: str) -> None:
        """Fetch a file or a folder in the thread."""
        with self._changed:
            self._waiting.append(name)
            if not self._at_work:
                self._at_work = True
                threading.Thread(target=self._work, name="fetches", daemon=True).start()

    def flush(self) -> None:
        """Return when everything is fetched.

        Raises:
            OSError: something cannot be fetched now either; the next call tries it again.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._at_work)
        while self._failed:
            self._fetch(self._failed[0])
            del self._failed[0]

    def _work(self) -> None:
        """Fetch until nothing waits any more."""
        while (name := self._next()) is not None:
            try:
                self._fetch(name)
            except Exception:
                with self._changed:
                    self._failed.append(name)

    def _next(self) -> str | None:
        with self._changed:
            if self._waiting:
                return self._waiting.popleft()
            self._at_work = False
            self._changed.notify_all()
            return None
