"""Early stopping under constraints: trials that are predicted to be feasible at their end rank before all others.

A pruner that ranks by accuracy alone stops the sparse students, because those that fire too much are more accurate.
Here a trial's value at a rung is its accuracy where its metrics are predicted to be within the bounds, and else minus
its largest relative excess: all feasible trials are ahead of all infeasible ones, which are ranked by how far they are
from being feasible.

Firing rates and operations rise (or fall) in the course of a training. The prediction is the present value times the
median, over the arm's finished trials, of the ratio of the last value to the value at the same step.
"""

import statistics
from collections import deque
from collections.abc import Mapping

from supersnn.records.metrics import judged, violations

Steps = dict[str, dict[str, float]]
"""A trial's constrained metrics by step, as the study keeps them (keys of JSON are texts)."""

LEAST_FINISHED = 3
"""How many finished trials a prediction needs; before that a metric is taken to stay as it is."""
LATEST = 100
"""How many finished trials a prediction looks at, at most."""


class ConstrainedRungs:
    """What one arm's pruner ranks by, where the sweep has `search.constraints`."""

    def __init__(self, constraints: Mapping[str, float]) -> None:
        self._constraints = constraints
        self._running: dict[int, Steps] = {}
        self._predicted: dict[int, dict[str, float]] = {}
        self._ratios: dict[tuple[str, str], deque[float]] = {}

    def value(self, number: int, step: int, accuracy: float, metrics: Mapping[str, float]) -> float:
        """Return a running trial's value at a step: its accuracy, or a negative number where it seems infeasible."""
        if not self._constraints:
            return accuracy
        bounded = ((key, value) for key, value in judged(metrics).items() if key in self._constraints)
        values = {key: value for key, value in bounded if value is not None}
        self._running.setdefault(number, {})[str(step)] = values
        predicted = {key: value * self._growth(str(step), key) for key, value in values.items()}
        self._predicted[number] = predicted
        excesses = violations(predicted, self._constraints)
        worst = max((excess / abs(self._constraints[key] or 1.0) for key, excess in excesses.items()), default=0.0)
        return accuracy if worst <= 0 else -worst

    def predicted(self, number: int) -> dict[str, float] | None:
        """Return a running trial's constrained metrics at its end, as last predicted; None before any prediction."""
        return self._predicted.get(number)

    def steps(self, number: int) -> Steps:
        """Return what is known of a running trial, for the study to keep; nothing without constraints."""
        return self._running.get(number, {})

    def resume(self, number: int, steps: Steps) -> None:
        """Take up a trial that an earlier driver had under way."""
        if steps:
            self._running[number] = dict(steps)

    def finish(self, number: int, finished: bool) -> None:
        """Forget a trial; one that was trained to its end serves the predictions from now on."""
        steps = self._running.pop(number, {})
        self._predicted.pop(number, None)
        if finished:
            self.learn(steps)

    def learn(self, steps: Steps) -> None:
        """Take a trial that was trained to its end into the predictions."""
        if not steps:
            return
        last = steps[max(steps, key=int)]
        for step, values in steps.items():
            for key, value in values.items():
                if value > 0 and key in last:
                    self._ratios.setdefault((step, key), deque(maxlen=LATEST)).append(last[key] / value)

    def _growth(self, step: str, key: str) -> float:
        known = self._ratios.get((step, key), ())
        return statistics.median(known) if len(known) >= LEAST_FINISHED else 1.0
