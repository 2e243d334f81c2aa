"""What a sweep's arms have come to so far: their trials, their verifications, their aggregates."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field

from tune.tracking.changes import Run

AVERAGED = ("spikes/rate", "ops/synaptic", "energy/nj")


@dataclass
class Verification:
    """One fresh seed of a trial, trained again and tested."""

    run: Run
    metrics: Mapping[str, float]


@dataclass
class Trial:
    """A trial so far; `value` is the last epoch's validation accuracy, `end` None while it runs."""

    run: Run
    epoch: int = 0
    value: float | None = None
    end: str | None = None
    verified: dict[int, Verification] = field(default_factory=dict)


@dataclass
class Arm:
    """An arm so far; `labels` are the distinct values of its trials' describing tags."""

    run: Run
    trials: dict[int, Trial] = field(default_factory=dict)
    labels: dict[str, set[str]] = field(default_factory=dict)
    winner: Trial | None = None
    tested: Trial | None = None

    def counts(self) -> dict[str, int]:
        """Return how many trials were started, finished, stopped and failed."""
        ends = [(trial.end or "").partition(":")[0] for trial in self.trials.values()]
        kinds = ("finished", "stopped", "failed")
        return {"trials/started": len(ends)} | {f"trials/{kind}": ends.count(kind) for kind in kinds}

    def best(self) -> float | None:
        """Return the best last value of the trials that had the whole budget."""
        values = (t.value for t in self.trials.values() if t.end == "finished" and t.value is not None)
        return max(values, default=None)

    def tests(self, metric: str = "test/accuracy") -> list[float]:
        """Return a metric's values of the trial that was verified last, a seed each."""
        seeds = self.tested.verified.values() if self.tested else ()
        return [seed.metrics[metric] for seed in seeds if seed.metrics.get(metric) is not None]

    def summary(self) -> dict[str, float | None]:
        """Return mean, standard deviation (of the sample) and number of the verified test accuracies."""
        tests = self.tests()
        if not tests:
            return {}
        sd = statistics.stdev(tests) if len(tests) > 1 else None
        return {"test/mean": statistics.fmean(tests), "test/sd": sd, "test/seeds": len(tests)}

    def averages(self) -> dict[str, float | None]:
        """Return the verified means of what a spiking network costs."""
        return {metric: statistics.fmean(self.tests(metric)) for metric in AVERAGED if self.tests(metric)}
