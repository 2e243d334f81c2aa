"""A breaker for nodes: one that fails again and again while others do not is left out, and looked at again later.

Nodes are named by any identifier that stays the same (on Ray its node id). Where it is known on which of a node's GPUs
work has failed, successes on its other GPUs say nothing about that. Nothing here imports Ray: the caller tells what has
happened, sends no work to `left_out`, and checks the nodes of `due`.
"""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

IN_A_ROW = 2
"""Failures in a row, of different pieces of work, after which a node is left out."""
FIRST_LOOK = 300.0
"""Seconds after which a node that was left out is looked at for the first time; each later time takes twice as long."""
LONGEST_WAIT = 3600.0
"""Seconds between two looks at most."""


@dataclass
class _Node:
    failed: dict[str, str | None] = field(default_factory=dict)  # work → on which part of the node, in a row
    sound: set[str | None] = field(default_factory=set)  # parts with a success since their last failure
    probation: bool = False
    suspect: str | None = None  # the part for which it was left out


@dataclass
class _LeftOut:
    reason: str
    wait: float
    due: float
    part: str | None = None


class NodeBreaker:
    """Counts failures in a row by node.

    A node is left out after two failures in a row of different pieces of work where another usable node has none; after
    it was readmitted, a single one is enough until its first success. The last usable node is never left out.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with sound nodes; `clock` returns seconds."""
        self._clock = clock
        self._nodes: dict[str, _Node] = {}
        self._left_out: dict[str, _LeftOut] = {}
        self._waits: dict[str, float] = {}
        self._slow: set[str] = set()

    @property
    def left_out(self) -> dict[str, str]:
        """The nodes that get no work, each with the reason."""
        return {node: entry.reason for node, entry in self._left_out.items()}

    def failed(self, node: str, work: str, reason: str, usable: Collection[str], part: str | None = None) -> bool:
        """Count a failure; return whether it has left the node out just now.

        Args:
            node: where it happened.
            work: what was running: a trial's or a task's name. The same one counts once.
            reason: one line.
            usable: the nodes that could get work now; those left out may be among them.
            part: the GPUs of the node on which it was running, None where that is not known or does not matter.
        """
        if node in self._left_out:
            return False
        entry = self._nodes.setdefault(node, _Node())
        entry.failed[work] = part
        entry.sound = set() if part is None else entry.sound - {part, None}
        others = [other for other in usable if other != node and other not in self._left_out]
        if all(self._fails(other) for other in others):
            return False
        in_a_row = sum(failed in (part, None) for failed in entry.failed.values())
        if in_a_row < (1 if entry.probation else IN_A_ROW):
            return False
        self._leave_out(node, reason, part)
        return True

    def leave_out(self, node: str, reason: str, usable: Collection[str], slow: bool = True) -> bool:
        """Leave out a node for another reason than failures, but not the last usable one; return whether it is now.

        Args:
            node, reason, usable: see `failed`.
            slow: for what its later successes do not disprove.
        """
        if node in self._left_out or not any(other != node and other not in self._left_out for other in usable):
            return False
        self._leave_out(node, reason)
        if slow:
            self._slow.add(node)
        return True

    def _leave_out(self, node: str, reason: str, part: str | None = None) -> None:
        wait = self._waits.get(node, FIRST_LOOK)
        self._left_out[node] = _LeftOut(reason, wait, self._clock() + wait, part)

    def succeeded(self, node: str, part: str | None = None) -> None:
        """Count a success, on some GPUs of the node if it has any: the failures before it were not theirs."""
        entry = self._nodes.setdefault(node, _Node())
        entry.failed = {work: failed for work, failed in entry.failed.items() if failed not in (part, None)}
        entry.sound.add(part)
        if entry.suspect not in (part, None):
            return
        entry.probation, entry.suspect = False, None
        if node not in self._left_out and node not in self._slow:
            self._waits.pop(node, None)

    def all_failed(self, usable: Collection[str]) -> bool:
        """Return whether each of these nodes has failed and has had no success since, on any GPU, or is left out."""
        return all(node in self._left_out or self._fails(node) for node in usable)

    def due(self) -> list[str]:
        """Return the nodes that are to be looked at now; each is due again after a longer while."""
        found = [node for node, entry in self._left_out.items() if self._clock() >= entry.due]
        for node in found:
            self._postpone(node)
        return found

    def readmit(self, node: str) -> None:
        """Take a node back that a look has found to be sound; its next failure leaves it out again at once."""
        if (entry := self._left_out.pop(node, None)) is not None:
            self._nodes[node] = _Node(probation=True, suspect=entry.part)

    def still(self, node: str, reason: str) -> None:
        """Keep a node left out that a look has found to be faulty."""
        if node in self._left_out:
            self._left_out[node].reason = reason

    def _fails(self, node: str) -> bool:
        entry = self._nodes.get(node)
        return entry is not None and bool(entry.failed) and not entry.sound

    def _postpone(self, node: str) -> None:
        entry = self._left_out[node]
        entry.wait = self._waits[node] = min(2 * entry.wait, LONGEST_WAIT)
        entry.due = self._clock() + entry.wait
