"""How many trials a cluster's nodes hold: plain arithmetic over the records of `ray.nodes()`, without Ray."""

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tune.description.sweep import ResourcesConfig


@dataclass(frozen=True)
class Node:
    """A living node: its Ray id, its name for people, its total resources, its labels, and whether it is drained."""

    id: str
    name: str
    resources: Mapping[str, float]
    labels: Mapping[str, str]
    draining: bool = False


def living(records: Iterable[Mapping[str, Any]], draining: Collection[str] = ()) -> list[Node]:
    """Return the living nodes of `ray.nodes()`; of those with the same name each has the begin of its id in it too.

    Args:
        records: of all nodes.
        draining: the ids of those that are about to end, and get no more work.
    """
    alive = [record for record in records if record["Alive"]]
    names = [f"{record['NodeManagerHostname']} ({record['NodeManagerAddress']})" for record in alive]
    return [
        Node(
            record["NodeID"],
            name if names.count(name) == 1 else f"{name[:-1]}, {record['NodeID'][:8]})",
            record["Resources"],
            record.get("Labels") or {},
            record["NodeID"] in draining,
        )
        for record, name in zip(alive, names, strict=True)
    ]


def machine(name: str) -> str:
    """Return the machine's own name, as its workers report it, in a node's name for people."""
    return name.partition(" (")[0]


def bundle(need: ResourcesConfig) -> dict[str, float]:
    """Return the resources of one trial by Ray's names; an accelerator type is a resource of its nodes."""
    share = need.places
    amounts = {"CPU": need.cpus / share, "GPU": need.gpus_taken / share, "memory": float(need.memory or 0) / share}
    if need.accelerator is not None:
        amounts[f"accelerator_type:{need.accelerator}"] = 0.001
    return {name: amount for name, amount in amounts.items() if amount}


def slots_on(node: Node, need: ResourcesConfig) -> int:
    """Return how many trials a node holds: 0 where it lacks a label. A fraction of a GPU is of one GPU."""
    if any(node.labels.get(label) != value for label, value in need.labels.items()):
        return 0
    each = {name: _times(node.resources.get(name, 0.0), amount) for name, amount in bundle(need).items()}
    if taken := need.gpus_taken / need.places:
        gpus = node.resources.get("GPU", 0.0)
        whole = int(gpus + 1e-9)
        each["GPU"] = whole // int(taken) if taken > 1 else whole * _times(1.0, taken) + _times(gpus - whole, taken)
    return min(each.values())


def slots(nodes: Iterable[Node], need: ResourcesConfig) -> int:
    """Return how many trials the nodes hold."""
    return sum(slots_on(node, need) for node in nodes)


def gpus_of(nodes: Iterable[Node]) -> list[str]:
    """Return the GPUs of the nodes, each by its accelerator type, or as GPU where Ray knows none."""
    found = []
    for node in nodes:
        prefix = "accelerator_type:"
        names = (name.removeprefix(prefix) for name in node.resources if name.startswith(prefix))
        found += [next(names, "GPU")] * int(node.resources.get("GPU", 0))
    return found


def wanted(need: ResourcesConfig) -> str:
    """Return the resources and labels that a trial needs, as text."""
    parts = [f"{need.cpus:g} CPUs", f"{need.gpus_taken:g} GPUs"]
    parts += [f"{need.memory / 2**30:.3g} GiB of memory"] if need.memory else []
    parts += [f"an accelerator {need.accelerator!r}"] if need.accelerator else []
    parts += [f"a node with the label {label}={value}" for label, value in need.labels.items()]
    return ", ".join(parts)


def offered(nodes: Iterable[Node]) -> str:
    """Return the resources of the nodes, as text."""
    return "; ".join(f"{node.name}: {_amounts(node.resources)}" for node in nodes) or "no nodes"


def _amounts(resources: Mapping[str, float]) -> str:
    parts = [f"{resources.get('CPU', 0):g} CPUs", f"{resources.get('GPU', 0):g} GPUs"]
    parts += [f"{resources.get('memory', 0) / 2**30:.3g} GiB"]
    return ", ".join(parts + [name for name in resources if name.startswith("accelerator_type:")])


def _times(total: float, amount: float) -> int:
    """Return how often an amount is contained in another; sums of fractions may fall short by a rounding error."""
    return math.floor(total / amount + 1e-9)
