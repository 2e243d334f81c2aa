"""Notices: a driver's messages for people beside the journal's events; they are shown, never stored."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Stage = Literal["starting", "teachers", "search", "verify", "export"]


@dataclass(frozen=True)
class StageStarted:
    """The driver has started a stage of its work."""

    stage: Stage


@dataclass(frozen=True)
class NodeExcluded:
    """A node gets no more work from this driver: its name for people, and the reason."""

    node: str
    reason: str


Notice = StageStarted | NodeExcluded
Notify = Callable[[Notice], None]
"""Takes a notice; called in the driver's own thread."""


def ignore(notice: Notice) -> None:
    """Ignore a notice: for a driver without a display."""
