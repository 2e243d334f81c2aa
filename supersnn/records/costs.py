"""What a sweep's trainings took, by part: seconds of a slot, and of the GPUs that were taken at the time."""

from dataclasses import dataclass, field
from typing import Literal

Part = Literal["search", "teachers", "refits", "final runs"]
"""The trials; the teachers with their caches; those trained again for the final runs; the final runs with rankings."""


@dataclass(slots=True)
class Costs:
    """Sums over trainings.

    Attributes:
        seconds: for which a slot was taken, by part.
        gpu_seconds: the same times the GPUs, or the part of one, that the slot had.
        unknown: seconds of trials whose events do not say how many GPUs they took (journals of earlier versions).
    """

    seconds: dict[Part, float] = field(default_factory=dict)
    gpu_seconds: dict[Part, float] = field(default_factory=dict)
    unknown: float = 0.0

    def add(self, part: Part, seconds: float | None, gpus: float | None) -> None:
        """Add a training; one without `seconds` was done earlier, by another sweep."""
        if seconds is None:
            return
        self.seconds[part] = self.seconds.get(part, 0.0) + seconds
        if gpus is None:
            self.unknown += seconds if part == "search" else 0.0
        else:
            self.gpu_seconds[part] = self.gpu_seconds.get(part, 0.0) + gpus * seconds

    def slot_hours(self) -> float:
        """Return the hours of all slots together."""
        return sum(self.seconds.values()) / 3600

    def gpu_hours(self) -> float:
        """Return the hours of all GPUs together, as far as they are known."""
        return sum(self.gpu_seconds.values()) / 3600

    def row(self) -> dict[str, float]:
        """Return the sums as plain values: ``slot_hours``, ``gpu_hours``, and the latter by part."""
        parts = {f"gpu_hours_{part.replace(' ', '_')}": seconds / 3600 for part, seconds in self.gpu_seconds.items()}
        return {"slot_hours": self.slot_hours(), "gpu_hours": self.gpu_hours(), **parts}

    def text(self) -> str:
        """Return the hours of slots, or of GPUs where any were taken, with those of each part."""
        by_part = self.gpu_seconds if self.gpu_hours() else self.seconds
        unit = "GPU-hours" if self.gpu_hours() else "slot-hours"
        shown = {part: seconds / 3600 for part, seconds in by_part.items() if seconds}
        parts = ", ".join(f"{part} {_number(hours)}" for part, hours in shown.items())
        total = f"{_number(sum(shown.values()))} {unit}"
        return f"{total} ({parts})" if len(shown) > 1 else total


def _number(hours: float) -> str:
    return f"{hours:,.1f}" if hours >= 10 else f"{hours:.2g}"
