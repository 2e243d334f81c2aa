"""Nodes that are many times slower than the others for the same work. Without Ray."""

from supersnn.records.nodes import NodeRecord, slowness

MANY_TIMES = 4.0
"""A node is not used on whose epochs take so many times the median of the others'."""


class Stragglers:
    """The times of epochs by node, and by kind of training on the same kind of GPU."""

    def __init__(self) -> None:
        """Begin without any."""
        self._nodes: dict[str, NodeRecord] = {}

    def epoch(self, node: str, kind: str, seconds: float) -> float | None:
        """Take an epoch; return how many times as long the node's take as those of others, where that is too long.

        Args:
            node: any identifier.
            kind: what epochs are compared with each other.
            seconds: of the epoch, which was not the first one of its process.
        """
        record = self._nodes.setdefault(node, NodeRecord(node))
        record.add(kind, seconds)
        ratio = slowness(record, self._nodes.values())
        return ratio if ratio is not None and ratio >= MANY_TIMES else None

    def forget(self, node: str) -> None:
        """Begin anew with a node, which may be another one when it is used again."""
        self._nodes.pop(node, None)
