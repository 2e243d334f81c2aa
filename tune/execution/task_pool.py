"""Tasks on a cluster's nodes, in processes that stay: final runs, and teachers and caches outside of a search.

A process takes a trial's resources on a usable node. The pool has as many as there are tasks, and as the sweep's share
of the cluster allows; it grows and shrinks while it works. What fails is sent elsewhere as `retries.py` decides.
"""

import re
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import ray

from supersnn.errors import UserError
from tune.execution.cluster_state import ClusterState, admit_none, living_nodes
from tune.execution.failures import FailedForGood, Failure, SystemFailure, failure_of, lost_worker
from tune.execution.node_check import NodeMismatch
from tune.execution.retries import GiveUp, Retry
from tune.execution.task_slot import TaskSlot
from tune.notices import Notify, TaskRetried

IDLE_EVERY = 2.0
"""Seconds after which a driver that waits for tasks looks at other things."""
EPOCHS = 10.0
"""A task may take so many times the longest time between two signs of progress so far for its next one."""
FIRST_SIGN = 12.0
"""Before its process's first sign it may take so many times `resources.stall`: it loads and compiles. A process has as
long to start, once it has its resources."""
TOO_MANY = 3.0
"""Seconds with more processes than the share, after which idle ones are ended."""

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
"""Ray colours the head of a worker's traceback."""

T = TypeVar("T")
R = TypeVar("R")


@dataclass(eq=False)
class _Task(Generic[T]):
    """A task that has not ended: its name in the retry policy, the nodes that it is not sent to, when it may run."""

    item: T
    key: str
    label: str
    avoid: frozenset[str] = frozenset()
    due: float = 0.0


@dataclass(eq=False)
class _Work(Generic[T]):
    """What one call of `TaskPool.run` has left."""

    function: Callable[[T], Any]
    waiting: deque[_Task[T]]
    running: dict[TaskSlot, _Task[T]] = field(default_factory=dict)
    slowest: float | None = None
    stopped: str | None = None

    def ready(self) -> list[_Task[T]]:
        """Return the tasks that wait for a process, without those that are to be tried again later."""
        return [task for task in self.waiting if task.due <= time.monotonic()]

    def take(self) -> _Task[T]:
        """Take the task that a process was started for: the first one that is ready, if any still is."""
        task = next(iter(self.ready()), self.waiting[0])
        self.waiting.remove(task)
        return task

    def learn(self, slot: TaskSlot) -> None:
        """Take the times between the signs of a process's task; one that found its result at once has given none."""
        if slot.advanced:
            self.slowest = max(self.slowest or 0.0, slot.longest)

    def deadline(self, slot: TaskSlot, stall: float) -> float:
        """Return the seconds that a process may give no sign for."""
        known = EPOCHS * (self.slowest or 0.0)
        return max(stall if slot.proven and self.slowest is not None else FIRST_SIGN * stall, known)


class TaskPool:
    """Processes for tasks; those of the last call are kept for the next one, until `close`."""

    def __init__(self, cluster: ClusterState, notify: Notify, light: bool = False) -> None:
        """Start none yet.

        Args:
            cluster: whose nodes are used.
            notify: is told what is tried again.
            light: for work that takes no slot of a trial: one process, which also starts where all slots are taken.
        """
        self._cluster, self._policy, self._notify, self._light = cluster, cluster.policy, notify, light
        self._slots: list[TaskSlot] = []
        self._tasks, self._right, self._worked = 0, 0.0, 0.0

    def run(
        self,
        function: Callable[[T], R],
        items: Sequence[T],
        idle: Callable[[], None],
        waits: Callable[[str], None] = lambda _: None,
    ) -> Iterator[tuple[T, R | Exception]]:
        """Yield each item with its result, or the error that it has failed with for good, as they end.

        Args:
            function, items: what is run; an item's `label`, if it has one, names it for people.
            idle: is called every few seconds.
            waits: is called then too, with what the driver waits for, an empty text where it waits for nothing.

        Raises:
            UserError: no usable nodes are left, or everything fails; then what was under way has ended.
        """
        self._right = self._worked = time.monotonic()
        work: _Work[T] = _Work(function, deque(self._named(function, item) for item in items))
        try:
            while work.waiting or work.running:
                self._fill(work)
                if ended := self._wait():
                    yield from self._take(work, ended)
                elif error := self._cluster.no_usable_nodes():
                    raise error
                idle()
                waits(self._waits_for())
                self._cluster.look_again()
                yield from self._end_hanging(work)
                self._shrink(work)
        finally:
            for slot in list(work.running):
                self._end(slot)
        waits("")
        if work.stopped is not None:
            raise UserError(work.stopped)

    def close(self) -> None:
        """End all processes, and give their resources back."""
        for slot in list(self._slots):
            self._end(slot)

    def _named(self, function: Callable[..., Any], item: T) -> _Task[T]:
        self._tasks += 1
        name = getattr(function, "__name__", type(function).__name__)
        return _Task(item, f"~tasks/{self._tasks}", str(getattr(item, "label", name)))

    def _fill(self, work: _Work[T]) -> None:
        """Give tasks to the processes that have none, and start processes for the others."""
        for slot in [slot for slot in self._slots if slot.node is not None and slot not in work.running]:
            if (task := self._task_for(work, slot)) is not None:
                work.running[slot] = task
                slot.run(work.function, task.item)
        starting = [slot for slot in self._slots if slot.node is None]
        for task in work.ready()[len(starting) :]:
            if len(self._slots) >= self._capacity():
                break
            self._slots.append(TaskSlot(self._cluster, task.avoid, self._light))

    def _task_for(self, work: _Work[T], slot: TaskSlot) -> _Task[T] | None:
        """Take the first task that may run on a process's node; a process that no task may use makes room."""
        nodes, ready = self._cluster.open_nodes(), work.ready()
        for task in ready:
            if slot.node in nodes and (slot.node not in task.avoid or nodes.keys() <= task.avoid):
                work.waiting.remove(task)
                return task
        if ready:
            self._end(slot)
        return None

    def _wait(self) -> list[TaskSlot]:
        """Return the slots whose processes have started, or whose tasks have ended, after a while at most."""
        pending = {slot.pending: slot for slot in self._slots if slot.pending is not None}
        if not pending:
            time.sleep(IDLE_EVERY)  # there is no room for a process now
            return []
        ready, _ = ray.wait(list(pending), num_returns=len(pending), timeout=0)
        if not ready:
            ready, _ = ray.wait(list(pending), num_returns=1, timeout=IDLE_EVERY)
        return [pending[reference] for reference in ready]

    def _waits_for(self) -> str:
        """Return what the driver waits for: nothing where a process has started."""
        if any(slot.node is not None for slot in self._slots):
            self._worked = time.monotonic()
            return ""
        return self._cluster.waits_for(time.monotonic() - self._worked)

    def _take(self, work: _Work[T], ended: Collection[TaskSlot]) -> Iterator[tuple[T, Any]]:
        for slot in ended:
            task = work.running.pop(slot, None)
            try:
                result = slot.result()
            except ray.exceptions.RayError as error:
                yield from self._failed(work, slot, task, error)
                continue
            if isinstance(result, NodeMismatch):
                self._end(slot)
                self._cluster.exclude(result)
            elif task is not None:
                work.learn(slot)
                self._policy.succeeded(task.key, slot.node, slot.gpus)
                self._policy.ended(task.key)
                yield task.item, result

    def _failed(
        self, work: _Work[T], slot: TaskSlot, task: _Task[T] | None, error: Exception
    ) -> Iterator[tuple[T, Any]]:
        """Take a task's error, or the loss of a process."""
        own, trace = None, ""
        if isinstance(error, ray.exceptions.RayTaskError):
            own, trace = error.cause, _COLOUR.sub("", str(error))
        node = slot.where()
        if isinstance(own, SystemFailure):
            failure, own = own.failure, None
        elif own is not None:
            failure = failure_of(own)
        else:
            living = {one.id for one in living_nodes()}
            failure = lost_worker(" ".join(str(error).split()), node_lost=node is not None and node not in living)
        if failure.of_system or own is None or slot.node is None:
            self._end(slot)  # a process that has not started, or whose machine or GPU has failed, is used no more
        if task is None:
            if not work.waiting:
                return
            task = work.take()
        yield from self._decide(work, task, failure, node, own, trace)

    def _decide(
        self,
        work: _Work[T],
        task: _Task[T],
        failure: Failure,
        node: str | None,
        own: Exception | None = None,
        trace: str = "",
    ) -> Iterator[tuple[T, Any]]:
        """Send a task again that has failed, or end it; its own error is told by itself where that says enough."""
        if isinstance(own, UserError) or type(own).__name__ == "StaleDriverError":
            yield task.item, own
            return
        nodes = self._cluster.able_nodes()
        decision = self._policy.failed(task.key, failure, node, nodes)
        if work.stopped is not None:
            return
        if isinstance(decision, Retry):
            self._notify(TaskRetried(task.label, nodes.get(node or "", node), failure.text))
            task.avoid, task.due = decision.avoid, time.monotonic() + decision.wait
            work.waiting.append(task)
        elif isinstance(decision, GiveUp):
            yield task.item, FailedForGood(task.label, failure, trace)
        else:
            work.stopped = decision.text
            work.waiting.clear()

    def _end_hanging(self, work: _Work[T]) -> Iterator[tuple[T, Any]]:
        """End the processes that have not started, or whose tasks have given no sign, for too long: others go on."""
        for slot, task in list(work.running.items()):
            if slot.watch():
                self._policy.succeeded(task.key, slot.node, slot.gpus)
                work.learn(slot)
            if slot.silent() > work.deadline(slot, self._cluster.stall):
                del work.running[slot]
                self._end(slot)
                failure = Failure("stall", f"no progress for {slot.silent():.0f} s")
                yield from self._decide(work, task, failure, slot.node)
        for slot in [slot for slot in self._slots if slot.node is None]:
            if (seconds := slot.starting()) > FIRST_SIGN * self._cluster.stall:
                node = slot.where()
                self._end(slot)
                if work.waiting:
                    failure = Failure("stall", f"a process has not started for {seconds:.0f} s")
                    yield from self._decide(work, work.take(), failure, node)

    def _shrink(self, work: _Work[T]) -> None:
        """Give up processes without a task: others wait for their resources, or they have not started and need not."""
        nodes = self._cluster.open_nodes()
        for slot in [slot for slot in self._slots if slot not in work.running]:
            nowhere = slot.node is None and (not work.waiting or admit_none(slot.labels, nodes))
            closed = slot.node is not None and slot.node not in nodes
            if nowhere or closed or self._too_many():
                self._end(slot)

    def _too_many(self) -> bool:
        """Return whether there have been more processes than the share for a while: counts lag behind each other."""
        if len(self._slots) <= max(1, self._capacity()):
            self._right = time.monotonic()
        return time.monotonic() - self._right > TOO_MANY

    def _capacity(self) -> int:
        return 1 if self._light else self._cluster.capacity(whole=True)

    def _end(self, slot: TaskSlot) -> None:
        slot.end()
        if slot in self._slots:
            self._slots.remove(slot)
