"""The events of failures that a sweep gets over: an attempt is repeated, a driver waits for a node."""

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
    """The driver has work, and no node for it: `reason` says what it waits for. Empty: it goes on."""

    event: Literal["wait"] = "wait"
    reason: str
