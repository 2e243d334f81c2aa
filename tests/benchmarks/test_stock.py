"""Stock Ray Tune as a side of the benchmarks: its space, and a run to its end and to a time."""

from pathlib import Path

import pytest
from ray.tune.search.sample import Categorical, Float, Integer

from benchmarks.search import QUICK, STOCK, searched, sweep, teach
from benchmarks.stock import domain, run_stock
from benchmarks.sweep import equal_trials
from tune.description.space import SearchParameter


def test_a_search_parameter_as_ray_has_it() -> None:
    log = domain(SearchParameter(log=(0.01, 1.0)))
    assert (type(log), log.lower, log.upper) == (Float, 0.01, 1.0)
    whole = domain(SearchParameter(integer=(1, 4)))
    assert (type(whole), whole.lower, whole.upper) == (Integer, 1, 5)  # Ray's upper bound is not included
    choice = domain(SearchParameter(categorical=("hard", "soft")))
    assert (type(choice), list(choice.categories)) == (Categorical, ["hard", "soft"])


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("tracking", [True, False])
def test_all_trials_are_run_to_their_ends(tmp_path: Path, tracking: bool) -> None:
    started, events = run_stock(equal_trials(3, 2, 300), tmp_path, asha=False, tracking=tracking)
    ends = [event for event in events if event["event"] == "end"]
    assert len(ends) == 3
    assert all(event["time"] > started and 0 <= event["value"] <= 1 for event in ends)
    assert len([event for event in events if event["event"] == "epoch"]) == 6
    assert len(list(tmp_path.glob("stock-*/mlflow.db"))) == tracking


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_search_ends_when_its_time_is_up(tmp_path: Path) -> None:
    config = sweep(QUICK, 100, seconds=100.0)
    teach(config, tmp_path)
    found = searched(STOCK, config, tmp_path, 100.0)
    assert found.begun > 0
    assert all(at <= 100 for at, _ in found.finds)
