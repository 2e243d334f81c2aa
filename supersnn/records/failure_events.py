"""The events of what holds a sweep up: an attempt has failed and is repeated, a driver waits."""

from typing import Literal

from supersnn.records.event_base import Event, Located


class AttemptFailed(Located):
    """An attempt of a trial has failed, and the trial is run again from its last checkpoint.

    `attempt` counts the failed ones of this driver from 1; `kind` is what has failed (`tune.execution.failures.Kind`):
    ``own`` for an error of the trial's own, else what of the machine; `reason` is one line, `node` where, None where
    that is not known, and `epochs` how many epochs the journal has of the trial.
    """

    event: Literal["attempt"] = "attempt"
    arm: str
    trial: int
    attempt: int
    kind: str
    reason: str
    node: str | None = None
    epochs: int = 0


class DriverWaits(Event):
    """The driver has work, and waits: `reason` says what for, a node or a person. Empty: it goes on.

    `paused`: all that is left is paused, so that nothing runs; this time is not spent from `search.hours`.
    """

    event: Literal["wait"] = "wait"
    reason: str
    paused: bool = False

    def left_out(self) -> set[str]:
        """Return the fields that are not written: those with their default."""
        return set() if self.paused else {"paused"}
