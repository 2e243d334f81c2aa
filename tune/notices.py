"""Notices for people: what a driver says of its work beside the journal's events. They are shown, never stored."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Stage = Literal["starting", "teachers", "search", "verify", "export"]


@dataclass(frozen=True)
class StageStarted:
    """The driver has come to another part of its work."""

    stage: Stage


@dataclass(frozen=True)
class NodeExcluded:
    """A node gets no more work from this driver: its name for people, and why."""

    node: str
    reason: str


Notice = StageStarted | NodeExcluded
Notify = Callable[[Notice], None]
"""Takes a notice; called in the driver's own thread."""


def ignore(notice: Notice) -> None:
    """Drop a notice: the listener of a driver that nobody watches."""
