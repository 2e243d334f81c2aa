"""A process for tasks on a node: it compares the node with the driver before it imports anything that trains."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ray

from tune.execution.device import visible_gpus
from tune.execution.failures import failure_of
from tune.execution.node_check import NodeMismatch, NodeRequirements, node_mismatch
from tune.execution.progress import counting

WATCH = "watch"
"""The actor's concurrency group of calls that are answered while a task runs."""


@dataclass(frozen=True)
class Started:
    """Where a process is: Ray's id of its node, and the numbers of its GPUs there, None where it has none."""

    node: str
    gpus: str | None


class TaskProcess:
    """The actor: it runs one task after the other, and keeps its images and its context on the GPU between them."""

    def __init__(self, requirements: Mapping[str, Any] | None, device: str, gpus: float) -> None:
        """Run on a device; where that is a part of a GPU, with so much of its memory."""
        self._requirements, self._device, self._gpus = requirements, device, gpus
        self._signs = 0

    def start(self) -> NodeMismatch | Started:
        """Compare the node; only then load what trains. Return how it differs, else where the process is.

        Raises:
            SystemFailure: the storage or a GPU cannot be used.
        """
        if self._requirements is not None:
            mismatch = node_mismatch(NodeRequirements(**self._requirements))
            if mismatch is not None:
                return mismatch
        if self._device == "cuda" and 0 < self._gpus < 1:
            import torch

            torch.cuda.set_per_process_memory_fraction(self._gpus)
        return Started(ray.get_runtime_context().get_node_id(), visible_gpus(self._device))

    def run(self, work: bytes) -> Any:
        """Return the result of a pickled function and its item.

        Raises:
            SystemFailure: the machine has failed, or this process can do no further work. What an error follows from is
                told here: it is lost on its way.
            Exception: what the function has raised.
        """
        from tune.execution.device import run_on

        function, item = ray.cloudpickle.loads(work)
        if self._device == "cuda":
            import torch

            torch.cuda.empty_cache()
        try:
            with counting(self._count):
                return run_on(self._device, function, item)
        except Exception as error:
            failure = failure_of(error)
            if failure.ends_process:
                node = ray.get_runtime_context().get_node_id()
                raise failure.raised_on(node, visible_gpus(self._device)) from error
            raise

    @ray.method(concurrency_group=WATCH)
    def signs(self) -> int:
        """Return how many signs of progress the tasks have given so far."""
        return self._signs

    def _count(self) -> None:
        self._signs += 1
