"""The state of a Ray cluster during a sweep: its usable nodes, the trials that they hold, and the excluded nodes."""

import math
import time
from collections.abc import Callable

import ray

from supersnn.errors import UserError
from tune.description.sweep import ResourcesConfig
from tune.execution.device import device_of
from tune.execution.node_check import NodeMismatch, NodeRequirements
from tune.execution.nodes import Node, living, slots, slots_on
from tune.notices import NodeExcluded, Notify

NODE_ID = "ray.io/node-id"
"""The label by which Ray tells nodes apart."""

COUNT_EVERY = 1.0
"""Seconds for which the capacity is not counted again: the searcher asks for it in every step of Tune's loop."""


def living_nodes() -> list[Node]:
    """Return the living nodes of the cluster that this process has joined."""
    return living(ray.nodes())


class ClusterState:
    """Which nodes may run work, and how many trials; shared by all that sends work to the cluster.

    requirements: what each process compares its node with before it works, as plain values; None on a Ray of our own.
    device: that trials train on.
    """

    def __init__(
        self,
        resources: ResourcesConfig,
        requirements: NodeRequirements | None,
        notify: Notify,
        nodes: Callable[[], list[Node]] = living_nodes,
    ) -> None:
        self.requirements = None if requirements is None else vars(requirements)
        self.device = device_of(resources.gpus_taken)
        self._resources, self._notify, self._nodes = resources, notify, nodes
        self._excluded: dict[str, str] = {}
        self._capacity, self._counted = 0, -math.inf

    def adopt(self, resources: ResourcesConfig) -> None:
        """Go on with other resources of a trial."""
        self._resources, self._counted = resources, -math.inf

    def capacity(self) -> int:
        """Return how many trials may be under way: `trials_at_once`, else what the usable nodes hold."""
        if self._resources.trials_at_once is not None:
            return self._resources.trials_at_once
        if time.monotonic() - self._counted >= COUNT_EVERY:
            usable = (node for node in self._nodes() if node.id not in self._excluded)
            self._capacity, self._counted = slots(usable, self._resources), time.monotonic()
        return self._capacity

    def exclude(self, mismatch: NodeMismatch) -> None:
        """Send no more work to a node, and notify once."""
        if mismatch.node in self._excluded:
            return
        self._excluded[mismatch.node], self._counted = mismatch.reason, -math.inf
        names = {node.id: node.name for node in self._nodes()}
        self._notify(NodeExcluded(names.get(mismatch.node, mismatch.node), mismatch.reason))

    def label_selector(self) -> dict[str, str]:
        """Return the labels that a node must have for work: the sweep's own, and the id of no excluded node."""
        usable = {NODE_ID: f"!in({','.join(self._excluded)})"} if self._excluded else {}
        return {**self._resources.labels, **usable}

    def no_usable_nodes(self) -> UserError | None:
        """Return the error that ends the sweep where every node that could hold a trial is excluded, else None.

        With `trials_at_once` there is none: an autoscaler may start other nodes.
        """
        if self._resources.trials_at_once is not None:
            return None
        able = [node for node in self._nodes() if slots_on(node, self._resources)]
        if not able or any(node.id not in self._excluded for node in able):
            return None
        reasons = "; ".join(f"{node.name}: {self._excluded[node.id]}" for node in able)
        return UserError(f"no usable nodes left ({reasons}); fix them and rerun the same command")
