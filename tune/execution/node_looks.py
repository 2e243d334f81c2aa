"""Second looks at nodes that were left out: the comparison with the driver again, on GPUs with their known answers."""

from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from supersnn.errors import shortened
from tune.execution.breaker import NodeBreaker
from tune.execution.node_check import NodeMismatch, NodeRequirements, node_mismatch


class NodeLooks:
    """Asks nodes in the background; a node that does not answer stays left out."""

    def __init__(self, required: NodeRequirements | None) -> None:
        """Compare with these requirements; without any, a node is sound where a process starts on it."""
        self._required = required
        self._asked: dict[str, Any] = {}

    def look(self, breaker: NodeBreaker, living: Callable[[], Collection[str]]) -> None:
        """Ask the nodes that are due, and take the answers that have come."""
        due = breaker.due()
        for node in set(due) & set(living() if due else ()):
            self._drop(node)
            on_node = NodeAffinitySchedulingStrategy(node, soft=False)
            self._asked[node] = _look.options(scheduling_strategy=on_node).remote(self._required)
        for node, answer in list(self._asked.items()):
            if not ray.wait([answer], timeout=0)[0]:
                continue
            del self._asked[node]
            try:
                mismatch: NodeMismatch | None = ray.get(answer)
            except ray.exceptions.RayError as error:
                breaker.still(node, shortened(str(getattr(error, "cause", None) or error), 300))
                continue
            if mismatch is None:
                breaker.readmit(node)
            else:
                breaker.still(node, mismatch.reason)

    def _drop(self, node: str) -> None:
        """Give up a question that has had no answer since the last time."""
        if (asked := self._asked.pop(node, None)) is not None:
            with suppress(ray.exceptions.RayError):
                ray.cancel(asked, force=True)


@ray.remote(num_cpus=0, num_gpus=0, max_retries=0)  # it sees all GPUs, also those in use
def _look(required: NodeRequirements | None) -> NodeMismatch | None:
    """Compare this node with the driver."""
    return None if required is None else node_mismatch(required)
