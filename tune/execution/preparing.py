"""A teacher in preparation in a trial's process: its steps tell that it advances, until one has the result."""

import json
import threading
import time
from collections.abc import Mapping
from queue import SimpleQueue
from typing import Any

from tune.execution.device import run_on
from tune.execution.failures import failure_of
from tune.execution.preparations import Preparation, PreparationFailed
from tune.execution.prepare import prepare_one
from tune.execution.progress import counting

REPORT_EVERY = 30.0
"""Seconds between two steps that tell of progress, at least."""


class Preparing:
    """One preparation, in a thread: nobody would hear of a process that hangs from a step that never returns."""

    def __init__(self, task: Mapping[str, Any], device: str) -> None:
        """Begin."""
        self._task, self._device = task, device
        self._happened: SimpleQueue[float | Exception | str] = SimpleQueue()
        self._last = time.monotonic()
        threading.Thread(target=self._work, daemon=True).start()

    def next(self) -> dict[str, Any]:
        """Return the result or the failure, or after a while the longest time between two signs of progress.

        Raises:
            Exception: the machine has failed, or this process can do no further work.
        """
        began, longest = time.monotonic(), 0.0
        while True:
            happened = self._happened.get()
            if isinstance(happened, str):
                return {"prepared": happened}
            if isinstance(happened, Exception):
                if failure_of(happened).ends_process:
                    raise happened
                return {"failed": json.dumps(vars(PreparationFailed.of(happened)))}
            longest = max(longest, happened)
            if time.monotonic() - began >= REPORT_EVERY:
                return {"advanced": longest}

    def _work(self) -> None:
        try:
            with counting(self._sign):
                prepared = run_on(self._device, prepare_one, Preparation(**self._task))
        except Exception as error:
            self._happened.put(error)
        else:
            self._happened.put(prepared.as_text())

    def _sign(self) -> None:
        now = time.monotonic()
        self._happened.put(now - self._last)
        self._last = now
