"""The verified results of an arm, as MLflow's arm and sweep runs have them: pure functions of `SearchRecord`."""

import statistics

from supersnn.records.metrics import COSTS, TEST_ACCURACY, mean_of
from supersnn.records.state import SearchRecord


def accuracies(arm: SearchRecord) -> list[float]:
    """Return the test accuracies of an arm's final runs, one a seed."""
    values = (run.metrics.get(TEST_ACCURACY.key) for run in arm.final_runs())
    return [value for value in values if value is not None]


def summary(arm: SearchRecord) -> dict[str, float | None]:
    """Return mean, standard deviation (of the sample) and number of the verified test accuracies."""
    values = accuracies(arm)
    if not values:
        return {}
    sd = statistics.stdev(values) if len(values) > 1 else None
    return {"test/mean": statistics.fmean(values), "test/sd": sd, "test/seeds": len(values)}


def mean_costs(arm: SearchRecord) -> dict[str, float | None]:
    """Return the verified means of the costs of inference."""
    runs = [run.metrics for run in arm.final_runs()]
    return {cost.key: mean_of(runs, cost.key) for cost in COSTS}
