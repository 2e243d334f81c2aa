"""The verified results of searches and arms, as MLflow's runs have them: pure functions of `SearchRecord`."""

import statistics
from collections.abc import Sequence

from supersnn.records.metrics import COSTS, TEST_ACCURACY, mean_of
from supersnn.records.search_state import SearchRecord


def accuracies(search: SearchRecord) -> list[float]:
    """Return the test accuracies of a search's final runs, one a seed."""
    values = (run.metrics.get(TEST_ACCURACY.key) for run in search.final_runs())
    return [value for value in values if value is not None]


def summary(searches: Sequence[SearchRecord], replicated: bool = False) -> dict[str, float | None]:
    """Return mean, standard deviation (of the sample) and number of the verified test accuracies of an arm.

    Args:
        searches: the arm's on a data set.
        replicated: whether they are replicates: then mean and deviation are those of the winners' means, and
            `test/seeds` counts all of their seeds.
    """
    by_search = [values for search in searches if (values := accuracies(search))]
    if not by_search:
        return {}
    units = [statistics.fmean(values) for values in by_search] if replicated else by_search[0]
    sd = statistics.stdev(units) if len(units) > 1 else None
    found = {"test/mean": statistics.fmean(units), "test/sd": sd, "test/seeds": sum(map(len, by_search))}
    return found | ({"test/replicates": len(units)} if replicated else {})


def mean_costs(searches: Sequence[SearchRecord]) -> dict[str, float | None]:
    """Return the verified means of the costs of inference."""
    runs = [run.metrics for search in searches for run in search.final_runs()]
    return {cost.key: mean_of(runs, cost.key) for cost in COSTS}
