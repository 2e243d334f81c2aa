"""One process of a task pool, from the driver's side: its resources, its node, its task, when that last advanced."""

import time
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any, TypeVar

import ray
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from tune.execution.cluster_state import ClusterState, node_of_group
from tune.execution.task_process import WATCH, Started, TaskProcess

WATCH_EVERY = 10.0
"""Seconds between two questions to a process for its signs of progress."""

LONGEST_STEP = 30.0
"""Seconds that count between two looks at most: a driver that was away itself has heard nothing."""
_NEXT_TO_NOTHING = {"memory": 1.0}
"""A placement group cannot be empty."""

T = TypeVar("T")


class TaskSlot:
    """A process that is starting, idle or at work.

    Its resources are a placement group, as a trial's are: what jobs hold and wait for is seen by these.

    Attributes:
        node: Ray's id of its node, None until it has started there.
        gpus: the numbers of its GPUs there, None where it has none.
        labels: those that its node must have, fixed when it was made.
        pending: what it is awaited for, its start or its task; None while it is idle.
        longest: the longest time between two signs of its task so far, in seconds.
        advanced: whether its task has given a sign of progress.
        proven: whether any of its tasks has.
    """

    def __init__(self, cluster: ClusterState, avoid: Collection[str], light: bool = False) -> None:
        """Ask for the resources, on none of the nodes `avoid`, and start a process as soon as they are there.

        A `light` one asks for as good as nothing, on a node that could hold a trial.
        """
        amounts, labels = cluster.bundle(), cluster.label_selector(avoid)
        if light and cluster.open_nodes():
            amounts, labels = _NEXT_TO_NOTHING, cluster.label_selector(avoid, among_able=True)
        self.labels = labels
        self._group = placement_group([amounts], **({"bundle_label_selector": [labels]} if labels else {}))
        rest = {name: amount for name, amount in amounts.items() if name not in ("CPU", "GPU", "memory")}
        remote = ray.remote(concurrency_groups={WATCH: 1})(TaskProcess).options(
            num_cpus=amounts.get("CPU", 0),
            num_gpus=amounts.get("GPU", 0),
            memory=amounts.get("memory"),
            resources=rest or None,
            scheduling_strategy=PlacementGroupSchedulingStrategy(self._group, placement_group_bundle_index=0),
        )
        on = ("cpu", 0.0) if light else (cluster.device, cluster.gpus)
        self._process = remote.remote(cluster.requirements, *on)
        self.node: str | None = None
        self.gpus: str | None = None
        self.pending: Any = self._process.start.remote()
        self._watch: Any = None
        self._signs: int | None = 0
        self.advanced = self.proven = self._placed = False
        self._silent = self.longest = 0.0
        self._looked = self._asked = time.monotonic()

    def run(self, function: Callable[[T], Any], item: T) -> None:
        """Start a task."""
        self._begin()
        work = ray.cloudpickle.dumps((function, item))
        name = getattr(function, "__name__", type(function).__name__)
        self.pending = self._process.run.options(name=name).remote(work)

    def result(self) -> Any:
        """Return what its start or its task has returned; it is idle then.

        Raises:
            RayError: the task has raised an error, or the process is gone.
        """
        pending, self.pending = self.pending, None
        result = ray.get(pending)
        if isinstance(result, Started):
            self.node, self.gpus = result.node, result.gpus
        elif self.node is not None:
            self._note_sign()
        return result

    def where(self) -> str | None:
        """Return the node that has its resources, also where the process could not start; None where none has."""
        if self.node is not None:
            return self.node
        return node_of_group(self._group)

    def watch(self) -> bool:
        """Ask for signs of progress now and then; return whether there are new ones. It is called often."""
        advanced, now = False, time.monotonic()
        self._silent += min(now - self._looked, LONGEST_STEP)
        self._looked = now
        if self._watch is not None and ray.wait([self._watch], timeout=0)[0]:
            reference, self._watch = self._watch, None
            with suppress(ray.exceptions.RayError):
                signs = ray.get(reference)
                advanced = self._signs is not None and signs > self._signs
                self.proven = self.proven or signs > 0
                self._signs = signs
            if advanced:
                self.advanced = True
                self._note_sign()
        if self._watch is None and now - self._asked >= WATCH_EVERY:
            self._watch, self._asked = self._process.signs.remote(), now
        return advanced

    def starting(self) -> float:
        """Return the seconds for which it has had its resources and has not started; it is called often."""
        now = time.monotonic()
        if self._placed:
            self._silent += min(now - self._looked, LONGEST_STEP)
        elif now - self._asked >= WATCH_EVERY:
            self._placed, self._asked = self.where() is not None, now
        self._looked = now
        return self._silent

    def silent(self) -> float:
        """Return the seconds since its task's last sign of progress, as far as the driver has looked."""
        return self._silent

    def end(self) -> None:
        """End the process at once, and give its resources back."""
        with suppress(ray.exceptions.RayError):
            ray.kill(self._process)
        with suppress(ray.exceptions.RayError):
            remove_placement_group(self._group)

    def _begin(self) -> None:
        self._looked = self._asked = time.monotonic()
        self._silent = self.longest = 0.0
        self.advanced = False
        self._signs, self._watch = None, self._process.signs.remote()  # those of the tasks before are not its own

    def _note_sign(self) -> None:
        self.longest, self._silent = max(self.longest, self._silent), 0.0
