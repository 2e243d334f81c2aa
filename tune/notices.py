"""Notices: a driver's messages for people beside the journal's events; they are shown, never stored."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Stage = Literal["starting", "images", "search", "paused", "verify", "export"]


@dataclass(frozen=True)
class StageStarted:
    """The driver has started a stage of its work."""

    stage: Stage


@dataclass(frozen=True)
class NodeExcluded:
    """A node gets no more work from this driver: its name for people, and the reason."""

    node: str
    reason: str


@dataclass(frozen=True)
class NodeUnchecked:
    """A node has not answered before the sweep started: its processes make the check when they work."""

    node: str


@dataclass(frozen=True)
class TaskRetried:
    """A final run or a teacher has failed and is tried again: its name, the node that it failed on, and why."""

    task: str
    node: str | None
    reason: str


@dataclass(frozen=True)
class TaskFailed:
    """A teacher could not be had: its name, and why. What does not need it goes on."""

    task: str
    reason: str


@dataclass(frozen=True)
class JournalFault:
    """Something in the sweep's journal could not be read; the rest of it is used, and the line stays there."""

    fault: str


@dataclass(frozen=True)
class StudiesRebuilt:
    """The studies of some searches were gone, or lacked trials, and have been rebuilt from the journal's `trials`."""

    arms: tuple[str, ...]
    trials: int


@dataclass(frozen=True)
class WarmStarted:
    """A search begins with what an earlier sweep found.

    Of the ``same task`` the sampler has the values of its finished trials; in a ``transfer`` from another task its best
    trials are tried first. `trials` is how many, none where no value lies in this search's space.
    """

    search: str
    earlier: str
    kind: Literal["same task", "transfer"]
    trials: int


@dataclass(frozen=True)
class ArmWithoutWinner:
    """A search, named as its arm where it is the only one, has no winner at the end of the sweep, and why."""

    arm: str
    reason: str


@dataclass(frozen=True)
class Preparing:
    """Teachers are being trained and cached by workers: the names of those that are not ready; none when all are."""

    teachers: tuple[str, ...]


@dataclass(frozen=True)
class Progress:
    """How far a piece of work in this process is: ``teacher resnet8``, 3 of 12."""

    what: str
    done: int
    of: int


@dataclass(frozen=True)
class DatabaseChanged:
    """The store's MLflow database was repaired or upgraded: one line."""

    text: str


@dataclass(frozen=True)
class DevicesChosen:
    """Which devices the trials use, where there are GPUs."""

    text: str


@dataclass(frozen=True)
class DescriptionWarned:
    """The sweep's description allows something that is hardly meant: one line."""

    text: str


Notice = (
    StageStarted
    | NodeExcluded
    | NodeUnchecked
    | TaskRetried
    | TaskFailed
    | JournalFault
    | StudiesRebuilt
    | WarmStarted
    | ArmWithoutWinner
    | Preparing
    | Progress
    | DatabaseChanged
    | DevicesChosen
    | DescriptionWarned
)
Notify = Callable[[Notice], None]
"""Takes a notice; called in the driver's own thread."""


def ignore(_notice: Notice) -> None:
    """Ignore a notice: for a driver without a display."""
