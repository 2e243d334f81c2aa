"""What all events have: the base classes of the models in `events.py`."""

import time
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Seconds = Annotated[float, Field(ge=0, le=1e9)]
"""A duration; above some thirty years it is no measured one."""


def now() -> float:
    """Return the time in Unix seconds, to the millisecond."""
    return round(time.time(), 3)


class Event(BaseModel):
    """What all events have: their kind, and when they happened in Unix seconds."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    event: str
    time: float = Field(default_factory=now)

    def left_out(self) -> set[str]:
        """Return the names of fields that are not written."""
        return set()


class Located(Event):
    """What an event is about: a data set by its label in the sweep's `datasets`, and a replicate from 0.

    `dataset` is None where the sweep has one data set under `dataset`. Both are written only where they are not the
    default, so that journals of sweeps with one search an arm are as they were before there were others.
    """

    dataset: str | None = None
    replicate: int = Field(0, ge=0)

    def left_out(self) -> set[str]:
        """Return the fields that are not written: those with their default."""
        return {name for name in ("dataset", "replicate") if not getattr(self, name)}
