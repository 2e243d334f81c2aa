"""When teachers are prepared: beside the trials of the searches that have theirs, each when its search is next.

Every method is called in the driver's own thread: what is prepared is recorded there.
"""

import json
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from supersnn.digests import digest
from supersnn.errors import UserError, described
from supersnn.records.events import TeacherCached, TeacherTrained
from supersnn.teacher_outputs import OutputKind
from tune.execution.failures import FailedForGood
from tune.notices import Notify, Preparing, TaskFailed, TaskRetried, ignore


@dataclass(frozen=True, eq=False)
class Preparation:
    """The task for one teacher: plain values only, so that it travels anywhere.

    Attributes:
        config: a training with this teacher.
        kinds: the teacher outputs that any search needs.
        store: the address of the storage that driver and workers share.
        dataset, replicate: those of the first search that has the teacher, as events name them.
    """

    config: dict[str, Any]
    kinds: tuple[OutputKind, ...]
    store: str
    dataset: str | None = None
    replicate: int = 0

    @property
    def teacher(self) -> str:
        """The teacher's architecture."""
        return str(self.config["teacher"]["name"])

    @property
    def label(self) -> str:
        """Its name for people."""
        return f"teacher {self.teacher}"

    @property
    def name(self) -> str:
        """The name of this work, the same in all attempts, and that of no other work, of its traceback's file too."""
        return f"{self.teacher}-{digest(self.config, repr(self.kinds), self.store, self.dataset, self.replicate)}"

    def task(self) -> dict[str, Any]:
        """Return its fields as a message to a worker."""
        return dict(vars(self))


@dataclass(frozen=True)
class Prepared:
    """The result of a preparation: its events, `cache` None where the teacher runs beside the training."""

    teacher: TeacherTrained
    cache: TeacherCached | None

    def events(self) -> Iterator[TeacherTrained | TeacherCached]:
        """Yield the events for the journal."""
        yield self.teacher
        if self.cache is not None:
            yield self.cache

    def taking(self, teacher: float, cache: float) -> Self:
        """Return it with the seconds that a worker was at the teacher, and at its cache."""
        cached = None if self.cache is None else self.cache.model_copy(update={"took": cache})
        return replace(self, teacher=self.teacher.model_copy(update={"took": teacher}), cache=cached)

    def with_gpus(self, gpus: float) -> Self:
        """Return it with the GPUs that the worker had; one that no worker was at is left as it is."""
        if self.teacher.took is None:
            return self
        cached = None if self.cache is None else self.cache.model_copy(update={"gpus": gpus})
        return replace(self, teacher=self.teacher.model_copy(update={"gpus": gpus}), cache=cached)

    def as_text(self) -> str:
        """Return it as a worker's message."""
        return json.dumps([event.model_dump(mode="json") for event in self.events()])

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Return what a worker's message says."""
        teacher, *cache = json.loads(text)
        cached = TeacherCached.model_validate(cache[0]) if cache else None
        return cls(TeacherTrained.model_validate(teacher), cached)


@dataclass(frozen=True)
class PreparationFailed:
    """Why a teacher could not be prepared, in a worker's words.

    Attributes:
        text: one line.
        by_user: whether the user can mend that: nothing else is done then.
        trace: the traceback, empty where there is none.
    """

    text: str
    by_user: bool
    trace: str = ""

    @classmethod
    def of(cls, error: Exception) -> Self:
        """Return the failure that an error is."""
        if isinstance(error, FailedForGood):
            return cls(error.reason, by_user=False, trace=error.trace)
        by_user = isinstance(error, UserError)
        trace = "".join(traceback.format_exception(error))
        return cls(str(error) if by_user else described(error, 300), by_user, trace)


PREFIX = "~teachers/"
"""Begins the keys of preparations, which no trial's does."""
Find = Callable[[Preparation], Prepared | None]
Prepare = Callable[[Preparation], Prepared]


class Preparations:
    """The preparations that a sweep's searches still need.

    Attributes:
        work: prepares one in a worker, or in this process.
        failed: those that could not be had, which are not tried again: their searches wait for the next driver.
    """

    def __init__(
        self,
        needs: Mapping[str, Sequence[Preparation]],
        find: Find,
        work: Prepare,
        record: Callable[[Prepared], None],
        notify: Notify = ignore,
    ) -> None:
        """Prepare nothing yet.

        Args:
            needs: the preparations of each search, by its name; searches may share some.
            find: returns the result of one that is complete already; it is asked once.
            work: see above.
            record: takes each result, in the driver.
            notify: is told which teachers are being prepared.
        """
        self.work = work
        self._left = {search: list(items) for search, items in needs.items()}
        self._find, self._record, self._notify = find, record, notify
        self._looked: set[Preparation] = set()
        self._started = 0
        self._running: dict[str, Preparation] = {}
        self.failed: dict[Preparation, PreparationFailed] = {}
        self._slowest: float | None = None
        self._due: dict[Preparation, float] = {}

    def missing(self, search: str) -> list[Preparation]:
        """Return what a search still needs, preparations that run now among it."""
        for item in list(self._left[search]):
            if item not in self._looked:
                self._looked.add(item)
                if (found := self._find(item)) is not None:
                    self._finish(item, found)
        return list(self._left[search])

    def may_start(self, item: Preparation) -> bool:
        """Return whether a preparation does not run now, and has not failed for good."""
        return item not in self._running.values() and item not in self.failed

    def wait(self, item: Preparation) -> float:
        """Return the seconds until a preparation may be tried again: 0 where that is now."""
        return max(0.0, self._due.get(item, 0.0) - time.monotonic())

    @property
    def held(self) -> bool:
        """Whether one is to be tried again, and not yet."""
        return any(self.may_start(item) and self.wait(item) for item in self._due)

    def start(self, item: Preparation) -> str:
        """Note that a preparation runs now; return its name, which no trial has."""
        key = f"{PREFIX}{self._started}"
        self._started += 1
        self._running[key] = item
        self._show()
        return key

    def has(self, key: str) -> bool:
        """Return whether a name is that of a preparation."""
        return key.startswith(PREFIX)

    def name_of(self, key: str) -> str | None:
        """Return the name of the work of a preparation that runs (`Preparation.name`), None where it has ended."""
        item = self._running.get(key)
        return item.name if item is not None else None

    def requeue(self, key: str) -> None:
        """Take a preparation back that could not run where it was sent."""
        self._running.pop(key, None)

    def retried(self, key: str, node: str | None, reason: str, wait: float = 0.0) -> None:
        """Take a preparation back that has failed on a node, for so many seconds, and say so."""
        if (item := self._running.get(key)) is not None:
            self._due[item] = time.monotonic() + wait
            self._notify(TaskRetried(item.label, node, reason))
        self.requeue(key)

    def advanced(self, key: str, seconds: float) -> None:
        """Note the longest time between two signs of progress of a preparation."""
        if key in self._running:
            self._slowest = max(self._slowest or 0.0, seconds)

    def slowest(self) -> float | None:
        """Return the longest time between two signs of progress so far, None before any."""
        return self._slowest

    def ended(self, key: str, result: Prepared | PreparationFailed) -> None:
        """Record the result of a preparation once: the searches that needed it no longer do.

        One that has failed is kept in `failed`; what needs no such teacher goes on.

        Raises:
            UserError: it has failed, and the user can mend that.
        """
        item = self._running.pop(key, None)
        if item is None:
            return
        self._show()
        if isinstance(result, Prepared):
            self._finish(item, result)
            return
        if result.by_user:
            raise UserError(result.text)
        self.failed[item] = result
        self._notify(TaskFailed(item.label, result.text))

    def _finish(self, item: Preparation, result: Prepared) -> None:
        self._record(result)
        for items in self._left.values():
            if item in items:
                items.remove(item)

    def _show(self) -> None:
        self._notify(Preparing(tuple(dict.fromkeys(item.teacher for item in self._running.values()))))
