"""The nodes of a sweep: what each trained, how fast, and which are slower than the others."""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field

SLOW = 1.5
"""A node is slow whose epochs take so many times the median of other nodes, for trainings of the same kind."""
LEAST_EPOCHS = 3
"""How many epochs of a kind a node must have had to be compared."""


@dataclass(slots=True)
class NodeRecord:
    """One node.

    Attributes:
        name: of the machine, as its workers report it.
        gpus: the names of the GPUs that trained.
        trials: how many trials have had an epoch there; one that comes back to it counts again.
        failed: how many have failed there, also without an epoch there.
        epochs, seconds: by kind of training, without the first epoch of each worker, which loads and compiles.
    """

    name: str
    gpus: list[str] = field(default_factory=list)
    trials: int = 0
    failed: int = 0
    epochs: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def add(self, kind: str, seconds: float) -> None:
        """Add an epoch."""
        self.epochs[kind] = self.epochs.get(kind, 0) + 1
        self.seconds[kind] = self.seconds.get(kind, 0.0) + seconds

    def pace(self, kind: str) -> float | None:
        """Return the mean seconds of an epoch of a kind, None after too few."""
        epochs = self.epochs.get(kind, 0)
        return self.seconds[kind] / epochs if epochs >= LEAST_EPOCHS else None


def slowness(node: NodeRecord, nodes: Iterable[NodeRecord]) -> float | None:
    """Return how many times as long a node's epochs take as the median of the others, None where none compare.

    Each kind of training is compared by itself: the same networks and data on the same kind of GPU. The result is the
    mean over kinds, by the node's epochs.
    """
    others = [other for other in nodes if other.name != node.name]
    ratios, weights = [], []
    for kind, epochs in node.epochs.items():
        paces = [pace for other in others if (pace := other.pace(kind)) is not None]
        own = node.pace(kind)
        if own is not None and paces and (usual := statistics.median(paces)) > 0:
            ratios.append(own / usual)
            weights.append(epochs)
    return statistics.fmean(ratios, weights) if ratios else None


def slow_nodes(nodes: Iterable[NodeRecord]) -> dict[str, float]:
    """Return the nodes that are slow, each with how many times as long its epochs take."""
    every = list(nodes)
    found = {node.name: slowness(node, every) for node in every}
    return {name: ratio for name, ratio in found.items() if ratio is not None and ratio > SLOW}


def slow_text(nodes: Iterable[NodeRecord]) -> list[str]:
    """Return a sentence for each slow node."""
    return [
        f"node {name} is slow: its epochs take {ratio:.1f} times as long as the median of the other nodes'"
        for name, ratio in slow_nodes(nodes).items()
    ]
