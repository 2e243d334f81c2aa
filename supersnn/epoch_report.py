"""The report of a training's epoch, and why a training has failed."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

SILENT, SATURATED = 0.001, 0.99  # mean firing rates below and above which a training has failed

FAILURES = {
    "nan": "its loss or a metric is not a finite number: the training diverged; try a smaller optimizer.lr",
    "silent": f"its firing rate is below {SILENT}; try a lower neuron.threshold or other images",
    "saturated": f"its firing rate is above {SATURATED}; try a higher neuron.threshold",
}
"""What the reasons of failed trainings mean, by the part of `EpochReport.ended` after ``failed:``."""

Snapshot = tuple[dict[str, Tensor], dict[str, Any]]
"""A training's tensors by name, on the CPU, and its description."""


@dataclass(frozen=True)
class EpochReport:
    """Result of one epoch.

    epoch: counted from 1.
    metrics: finite values by the keys of `supersnn.records.metrics`.
    ended: None while the training continues, then "finished" or "failed:REASON".
    """

    epoch: int
    metrics: dict[str, float]
    ended: str | None
    _snapshot: Callable[[], Snapshot] = field(repr=False, compare=False)

    @property
    def failure(self) -> str | None:
        """Why the training failed, in a sentence; None if it did not."""
        reason = (self.ended or "").removeprefix("failed:")
        return None if self.ended in (None, "finished") else f"{reason} in epoch {self.epoch}: {FAILURES[reason]}"

    def snapshot(self) -> Snapshot:
        """Return the state, copied to the CPU, from which `train(resume=…)` continues with the same bits.

        The network's weights are among the tensors (`checkpoint.student_weights`); the description has `epoch`, `ended`
        and `history`, the metrics of every epoch so far.

        Raises:
            RuntimeError: the training has continued since this report.
        """
        return self._snapshot()
