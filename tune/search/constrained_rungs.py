"""Early stopping under constraints: trials that are predicted to be feasible at their end rank before all others.

A pruner that ranks by accuracy alone stops the sparse students, because those that fire too much are more accurate.
Here a trial's value at a rung is its accuracy where its metrics are predicted to be within the bounds, and else minus
its largest relative excess: all feasible trials are ahead of all infeasible ones, which are ranked by how far they are
from being feasible.

Firing rates and operations rise (or fall) in the course of a training. The prediction is the present value times the
median, over the arm's finished trials, of the ratio of the last value to the value at the same step.
"""

import statistics
from collections.abc import Mapping

from supersnn.records.metrics import judged, violations

Ratios = dict[str, dict[str, float]]
"""By step and metric, a finished trial's last value over its value at that step."""

LEAST_FINISHED = 3
"""How many finished trials a prediction needs; before that a metric is taken to stay as it is."""


class ConstrainedRungs:
    """What one arm's pruner ranks by, where the sweep has `search.constraints`."""

    def __init__(self, constraints: Mapping[str, float]) -> None:
        self._constraints = constraints
        self._running: dict[int, dict[int, dict[str, float]]] = {}
        self._ratios: dict[tuple[int, str], list[float]] = {}

    def value(self, number: int, step: int, accuracy: float, metrics: Mapping[str, float]) -> float:
        """Return a running trial's value at a step: its accuracy, or a negative number where it seems infeasible."""
        if not self._constraints:
            return accuracy
        values = {
            key: value for key, value in judged(metrics).items() if key in self._constraints and value is not None
        }
        self._running.setdefault(number, {})[step] = values
        predicted = {key: value * self._growth(step, key) for key, value in values.items()}
        excesses = violations(predicted, self._constraints)
        worst = max((excess / abs(self._constraints[key] or 1.0) for key, excess in excesses.items()), default=0.0)
        return accuracy if worst <= 0 else -worst

    def finished(self, number: int) -> Ratios:
        """Take a trial that was trained to its end into the predictions; return what `recall` needs of it."""
        steps = self._running.pop(number, {})
        if not steps:
            return {}
        last = steps[max(steps)]
        ratios = {
            str(step): {key: last[key] / value for key, value in values.items() if value > 0 and key in last}
            for step, values in steps.items()
        }
        self.recall(ratios)
        return ratios

    def dropped(self, number: int) -> None:
        """Forget a trial that was stopped, failed or interrupted."""
        self._running.pop(number, None)

    def recall(self, ratios: Ratios) -> None:
        """Take a trial that has finished under an earlier driver into the predictions."""
        for step, values in ratios.items():
            for key, ratio in values.items():
                self._ratios.setdefault((int(step), key), []).append(ratio)

    def _growth(self, step: int, key: str) -> float:
        known = self._ratios.get((step, key), [])
        return statistics.median(known) if len(known) >= LEAST_FINISHED else 1.0
