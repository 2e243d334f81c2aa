"""The state of a Ray cluster during a sweep: its usable nodes, the trials that they hold, and the excluded nodes."""

import re
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

import ray

from supersnn.errors import UserError
from tune.description.sweep import ResourcesConfig
from tune.execution.device import device_of
from tune.execution.keeper import KeeperInUse
from tune.execution.node_check import NodeMismatch, NodeRequirements
from tune.execution.node_looks import NodeLooks
from tune.execution.nodes import Node, bundle, living, slots, slots_on
from tune.execution.retries import RetryPolicy
from tune.execution.share import Occupancy, allowance, claims_of, in_vain, kept, unoccupied
from tune.notices import NodeExcluded, Notify

NODE_ID = "ray.io/node-id"
"""The label by which Ray tells nodes apart."""

COUNT_EVERY = 1.0
"""Seconds for which the capacity is not counted again: the searcher asks for it in every step of Tune's loop."""

PENDING = 120.0
"""Seconds without any process at work after which the driver waits for a node."""

IN_VAIN = 5.0
"""Seconds after which a job that waits beside free resources is taken to wait for others."""


def nobody_else() -> Occupancy | None:
    """Return None: a Ray of our own has no other jobs."""
    return None


def living_nodes() -> list[Node]:
    """Return the living nodes of the cluster that this process has joined."""
    return living(ray.nodes(), ray._private.state.state.get_draining_nodes())  # no public function tells of draining


def node_of_group(group: Any) -> str | None:
    """Return the id of the node that has a placement group of one bundle; None where none has."""
    nodes = ray.util.placement_group_table(group).get("bundles_to_node_id", {})
    return next(iter(nodes.values()), None) or None


def occupancy() -> Occupancy:
    """Return what is taken of the cluster that this process has joined: placement groups, and what Ray has left."""
    table = claims_of(ray.util.placement_group_table())
    available = ray._private.state.available_resources_per_node()
    return Occupancy(ray.get_runtime_context().get_job_id(), available, table)


def admit_none(labels: Mapping[str, str], open_nodes: Collection[str]) -> bool:
    """Return whether there are open nodes, and none of them may take work that has got these labels earlier.

    Work keeps the labels of `ClusterState.label_selector` while it waits; the nodes that they allow may be lost, and
    others come back.
    """
    chosen = re.fullmatch(r"(!?)in\((.*)\)", labels.get(NODE_ID, ""))
    if chosen is None or not open_nodes:
        return False
    named = chosen[2].split(",")
    return all((node in named) == bool(chosen[1]) for node in open_nodes)


class ClusterState:
    """Which nodes may run work, and how many trials; shared by all that sends work to the cluster.

    stall: seconds without a sign of work after which it may be taken to hang; see `tune`.
    policy: what follows failures, of trials and of tasks, and which nodes are left out for them.
    """

    def __init__(
        self,
        resources: ResourcesConfig,
        requirements: NodeRequirements | None,
        notify: Notify,
        nodes: Callable[[], list[Node]] = living_nodes,
        max_failures: int = 0,
        occupied: Callable[[], Occupancy | None] = nobody_else,
    ) -> None:
        self._keeper = KeeperInUse()
        self.stall = resources.stall
        self._resources, self._notify, self._list, self._occupied = resources, notify, nodes, occupied
        self._required = requirements
        self.policy, self._looks = RetryPolicy(max_failures, self._note_left_out), NodeLooks(requirements)
        self._excluded: dict[str, str] = {}
        self._draining: set[str] = set()
        self._counted: dict[bool, tuple[int, float]] = {}
        self._in_vain: dict[str, float] = {}

    @property
    def gpus(self) -> float:
        """How many GPUs, or what part of one, a trial or a task trains on."""
        return self._resources.gpus_taken

    @property
    def device(self) -> str:
        """The device that they train on."""
        return device_of(self.gpus)

    @property
    def keeper(self) -> Any:
        """The keeper of the processes in which trials are packed, None where each trial has its own."""
        return self._keeper.actor

    def start_keeper(self) -> None:
        """Have a keeper where trials are packed."""
        if self._resources.places > 1:
            self._keeper.start(self._resources.pack, self.device, self.stall)

    @property
    def requirements(self) -> dict[str, Any] | None:
        """What each process compares its node with before it works, as plain values; None on a Ray of our own."""
        return None if self._required is None else dict(vars(self._required))

    def _nodes(self) -> list[Node]:
        """Return the living nodes, and note which of them are drained."""
        nodes = self._list()
        self._draining = {node.id for node in nodes if node.draining}
        return nodes

    def open_nodes(self) -> dict[str, str]:
        """Return the living nodes that hold a trial and get work: their names by their ids."""
        able, closed = self.able_nodes(), self.closed_nodes()
        return {node: name for node, name in able.items() if node not in closed}

    def able_nodes(self) -> dict[str, str]:
        """Return the living nodes that could hold a trial, and match the driver: their names by their ids."""
        return {
            node.id: node.name
            for node in self._nodes()
            if node.id not in self._excluded and slots_on(node, self._resources)
        }

    def why_none(self) -> str:
        """Return what a driver waits for that has no open node."""
        able, left_out = self.able_nodes(), self.policy.breaker.left_out
        if not able:
            return f"a node: none of {len(self._nodes())} living ones holds a trial"
        reasons = {node: left_out.get(node, "it is drained") for node in able}
        return "a node: left out are " + "; ".join(f"{name} ({reasons[node]})" for node, name in able.items())

    def waits_for(self, seconds: float) -> str:
        """Return what a driver waits for that has had work, and no process at it, for so many seconds; else nothing.

        Where every node is excluded it does not wait: it is about to end.
        """
        if not self.open_nodes():
            return self.why_none() if self.no_usable_nodes() is None else ""
        return "a node that is free, or a process that is starting on one" if seconds > PENDING else ""

    def look_again(self) -> None:
        """Check the nodes that were left out a while ago, without waiting for their answers."""
        self._looks.look(self.policy.breaker, self.able_nodes)

    def closed_nodes(self) -> set[str]:
        """Return the ids of nodes that get no work: that do not match, that were left out, or that are drained.

        That a node is drained is known a second later (`COUNT_EVERY`).
        """
        return {*self._excluded, *self.policy.breaker.left_out, *self._draining}

    def leave_out(self, faulty: Mapping[str, str], differing: Mapping[str, str]) -> None:
        """Send no work to nodes that were checked, and notify.

        Args:
            faulty: nodes by their ids, each with a fault that may pass: they are looked at again.
            differing: those that differ from the driver, each with the difference: they are excluded for good.
        """
        for node, reason in differing.items():
            self.exclude(NodeMismatch(node, reason))
        for node, reason in faulty.items():
            if self.policy.breaker.leave_out(node, reason, self.able_nodes(), slow=False):
                self._note_left_out(node, reason)

    def _note_left_out(self, node: str, reason: str) -> None:
        self._counted = {}
        self._notify(NodeExcluded(self._name(node), f"{reason}; it is looked at again later"))

    def _name(self, node: str) -> str:
        return next((known.name for known in self._nodes() if known.id == node), node)

    def adopt(self, resources: ResourcesConfig) -> None:
        """Go on with other resources of a trial, while nothing runs."""
        self._resources, self._counted = resources, {}
        self._keeper.end_others(resources.pack if resources.places > 1 else 1, self.device)
        self.tune(resources.stall)
        if self._required is not None:
            self._required = replace(self._required, gpus=resources.gpus_taken)
            self._looks = NodeLooks(self._required)

    def tune(self, stall: float) -> None:
        """Let a changed `resources.stall` hold at once, also for trials that are packed."""
        self.stall = stall
        self._keeper.tune(stall)

    def capacity(self, whole: bool = False) -> int:
        """Return how many trials may be under way.

        That is `trials_at_once`; else what the usable nodes hold, on a cluster that others use this sweep's share of it
        (`share.py`). A sweep with `trials_at_once` gives up slots like any other.

        Args:
            whole: count tasks, which share their process with no other.
        """
        counted = self._counted.get(whole)
        if counted is None or time.monotonic() - counted[1] >= COUNT_EVERY:
            counted = self._counted[whole] = self._count(self._need(whole)), time.monotonic()
        return counted[0]

    def _need(self, whole: bool) -> ResourcesConfig:
        return self._resources.model_copy(update={"pack": 1}) if whole else self._resources

    def _count(self, need: ResourcesConfig) -> int:
        at_once, nodes, occupied = need.trials_at_once, self._nodes(), self._occupied()
        closed = self.closed_nodes()
        usable = [node for node in nodes if node.id not in closed]
        if occupied is None:
            return slots(usable, need) if at_once is None else at_once
        slot, now = bundle(need), time.monotonic()
        self._in_vain = {job: self._in_vain.get(job, now) for job in in_vain(nodes, occupied)}
        ignored = {job for job, since in self._in_vain.items() if now - since >= IN_VAIN}
        if (fewer := kept(nodes, occupied, slot, ignored)) is not None:
            return fewer
        free = slots(unoccupied(usable, occupied), need)
        return allowance(nodes, occupied, slot, free) if at_once is None else at_once

    def bundle(self) -> dict[str, float]:
        """Return the resources of a task by Ray's names."""
        return bundle(self._need(whole=True))

    def exclude(self, mismatch: NodeMismatch) -> None:
        """Send no more work to a node, and notify once."""
        if mismatch.node in self._excluded:
            return
        self._excluded[mismatch.node], self._counted = mismatch.reason, {}
        self._notify(NodeExcluded(self._name(mismatch.node), mismatch.reason))

    def label_selector(self, avoid: Collection[str] = (), among_able: bool = False) -> dict[str, str]:
        """Return the labels that a node must have for work: the sweep's own, and the id of no closed node.

        Args:
            avoid: nodes that this work is not to be sent to, where there are others.
            among_able: name the nodes instead, as is needed for work that takes less than a trial.
        """
        if among_able:
            able = self.open_nodes()
            return {NODE_ID: f"in({','.join(sorted(able.keys() - set(avoid) or able))})"}
        closed, left = self.closed_nodes(), self.open_nodes() if avoid else {}
        if any(node not in avoid for node in left):
            closed |= left.keys() & set(avoid)
        usable = {NODE_ID: f"!in({','.join(sorted(closed))})"} if closed else {}
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
