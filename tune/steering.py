"""The driver takes up requests: each becomes an event once, and holds at once or as soon as nothing runs.

Requests are taken up in the driver's own thread, where its executor looks for them while it waits. One to stop
interrupts that thread wherever it is, as Ctrl-C does.
"""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from supersnn.errors import UserError
from supersnn.records import steering
from supersnn.records.events import RequestTaken
from supersnn.records.searches import SearchId
from tune import requests
from tune.description import changes
from tune.description.arms import resolve
from tune.description.fixed import fixed_digest
from tune.description.inspection import inspect_sweep, is_here
from tune.description.references import check_enqueued
from tune.description.sweep import SweepConfig
from tune.requests import Request
from tune.search.search import Search
from tune.sweep_driver import SweepDriver

EVERY = 1.0
"""Seconds between two looks at the folder of requests."""
_SIGNAL = signal.SIGUSR2
"""The signal by which the watching thread interrupts the driver's own; Ray Tune uses SIGINT and SIGUSR1 itself."""


class Steering:
    """Takes up the requests for one driver.

    Attributes:
        search: the search under way, if any; it is left where a change needs that nothing runs.
        taken: how many requests were taken up and granted.
    """

    def __init__(self, driver: SweepDriver) -> None:
        self._driver, self._looked = driver, 0.0
        self._next: SweepConfig | None = None
        self._stop_file: Path | None = None
        self.search: Search | None = None
        self.taken = 0

    @property
    def change_waits(self) -> bool:
        """Whether a change was granted that holds as soon as nothing runs; see `adopt_waiting`."""
        return self._next is not None

    def adopt_waiting(self) -> bool:
        """Let the changes hold that had to wait; return whether there were any. Nothing runs."""
        if self._next is None:
            return False
        sweep, self._next = self._next, None
        self._driver.reopen(sweep)
        return True

    def poll(self) -> None:
        """Take up what was asked for since the last look, at most once a second."""
        if time.monotonic() - self._looked >= EVERY:
            self._looked = time.monotonic()
            self.take_up()

    def take_up(self) -> None:
        """Take up all requests in the folder, in the order in which they were made."""
        for path, request in requests.pending(self._driver.folder):
            if request is None or request.id in self._driver.record.state.requests:
                requests.delete(path)  # damaged, or taken up by a driver that died before it deleted it
            elif request.kind == "stop" and request.driver in (None, self._driver.token):
                continue  # the watching thread is about to interrupt this one
            else:
                self._take(request)
                requests.delete(path)

    def _take(self, request: Request) -> None:
        try:
            event = self._granted(request)
        except UserError as error:
            event = _event(
                request, [request.target] if request.target else [], values=request.values, refused=str(error)
            )
        self._driver.record.write(event)
        if event.refused is None:
            self.taken += 1
            self._apply(event)

    def _granted(self, request: Request) -> RequestTaken:
        """Return the event of a request.

        Raises:
            UserError: it is refused.
        """
        if request.kind == "stop":
            raise UserError("the driver that was to stop has ended")
        if request.kind == "change":
            return self._change(request)
        searches = self._searches(request.target)
        if request.kind == "enqueue":
            self._require_time(request.target)
            for search in searches:
                self._require_room(search)
                arm = self._driver.searches[search].arm
                check_enqueued(request.target, request.values, {arm.name: arm})
            return _event(request, searches, values=request.values)
        if request.kind == "retry":
            return self._retry(request)
        return _event(request, searches)

    def _change(self, request: Request) -> RequestTaken:
        before = self._next or self._driver.sweep
        after = changes.changed(before, request.values)
        state = self._driver.record.state
        if state.ran:
            changes.require_allowed(before, after, steering.begun(state))
        if after.arms.keys() - before.arms.keys() and is_here(after.dataset.name):
            inspect_sweep(after, resolve(after), self._driver.store, "change")
        known = {change.key: change for change in steering.overrides(state)}
        given = {key: changes.before_change(self._driver.given, key, known.get(key)) for key in request.values}
        return _event(request, values=request.values, before=given, config=fixed_digest(after))

    def _retry(self, request: Request) -> RequestTaken:
        if request.trial is None:
            raise UserError(f"{request.target}: expected the number of a trial")
        trial = steering.require_retriable(self._driver.record.state, request.target, request.trial)
        self._require_time(f"{request.target}/{request.trial}")
        return _event(request, [request.target], values=trial.params)

    def _searches(self, target: str) -> list[str]:
        """Return the searches that a target means: one by its name, or all of an arm, or all.

        Raises:
            UserError: it means none.
        """
        known = list(self._driver.studies.counts)
        found = [name for name in known if target in ("", name, SearchId.parse(name).arm)]
        if not found:
            raise UserError(f"no arm {target!r}; the arms are: {', '.join(known)}")
        return found

    def _require_time(self, name: str) -> None:
        if (spent := self._driver.budget.spent()) is not None:
            raise UserError(f"{name}: no trial may begin, {spent}; raise that, and ask again")

    def _require_room(self, search: str) -> None:
        driver, settings = self._driver, self._driver.sweep.search
        if settings.sampler == "grid":
            raise UserError("sampler grid tries the points of its grid only")
        waiting = len(steering.given(driver.record.state, search))
        if driver.studies.room(search) > waiting:
            return
        if driver.studies.stagnant(search):
            raise UserError(
                f"{search}: nothing was better in {settings.stagnation} trials of any arm, so that the search has "
                "ended; a larger search.stagnation makes room"
            )
        had = "begun all of" if settings.fair == "trials" else "spent the epochs of"
        raise UserError(
            f"{search}: the arm has {had} its {settings.trials} trials; more search.trials make room, for every arm"
        )

    def _apply(self, event: RequestTaken) -> None:
        """Let a granted request hold."""
        if event.kind == "change":
            before = self._next or self._driver.sweep
            after = changes.changed(before, event.values)
            if self._next is None and not changes.needs_pause(before, after):
                self._driver.adopt(after)
                return
            self._next = after
            if self.search is not None:
                self.search.leave()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Interrupt this thread, the main one, with KeyboardInterrupt when a request to stop comes."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        ended = threading.Event()
        before = signal.signal(_SIGNAL, _interrupt)
        watcher = threading.Thread(target=self._watch, args=(ended, threading.main_thread()), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()
            signal.signal(_SIGNAL, before)

    def _watch(self, ended: threading.Event, main: threading.Thread) -> None:
        while not ended.wait(EVERY):
            for path, request in requests.pending(self._driver.folder):
                if request is None or request.kind != "stop" or request.driver not in (None, self._driver.token):
                    continue
                if request.id not in self._driver.record.state.requests and main.ident is not None:
                    self._driver.stopping = _event(request)
                    self._stop_file = path
                    signal.pthread_kill(main.ident, _SIGNAL)
                    return

    def forget_stop(self) -> None:
        """Delete the request to stop after its event was written."""
        if self._stop_file is not None:
            requests.delete(self._stop_file)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _event(request: Request, searches: list[str] | None = None, **fields: object) -> RequestTaken:
    return RequestTaken.model_validate(
        {
            "id": request.id,
            "kind": request.kind,
            "searches": searches or [],
            "trial": request.trial,
            "by": request.by,
            "asked": request.asked,
            **fields,
        }
    )
