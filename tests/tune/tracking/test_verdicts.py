"""Notes of runs and experiments: ours follow the verdicts, a user's own are kept."""

import pandas as pd
import pytest

from analysis import compare
from analysis.answers import Answer
from supersnn.digests import digest
from tests.support.simulated_searches import searches
from tune.tracking.client import own_note
from tune.tracking.verdicts import LONGEST, _metrics, _note


class Fixed(Answer):
    """An answer whose final runs are given."""

    def __init__(self, verified: pd.DataFrame) -> None:
        super().__init__((), {}, compare.MARGIN)
        self.__dict__["verified"] = verified


def simulated(datasets: int) -> Fixed:
    table = searches(1, 5, 2, gains={"direct": 0.0, "homogeneous": 0.0, "heterogeneous": 0.05}, datasets=datasets)
    return Fixed(table.assign(question="q", sweep="s"))


@pytest.mark.parametrize("datasets", [1, 3])
def test_the_note_begins_with_the_answer_and_has_its_table(datasets: int) -> None:
    note = _note(simulated(datasets), ["direct", "homogeneous", "heterogeneous"])
    assert note.startswith("**A teacher helps")
    assert "| data |  | direct | homogeneous | heterogeneous |" in note
    assert note.count("gain, points") == datasets + (datasets > 1)
    assert len(note) <= LONGEST


def test_verdicts_are_metrics_with_names_that_mlflow_takes() -> None:
    metrics = dict(_metrics(simulated(1)))
    assert set(metrics) == {
        f"verdict/{pair}/{name}" for name in ("difference", "low", "high", "p")
        for pair in ("heterogeneous-homogeneous", "homogeneous-direct", "heterogeneous-direct")
    }  # fmt: skip
    assert metrics["verdict/heterogeneous-direct/difference"] == pytest.approx(0.05, abs=0.01)
    assert "verdict/overall/heterogeneous-direct/p" in dict(_metrics(simulated(2)))


def test_a_users_note_is_kept() -> None:
    assert own_note({}, "s")
    assert own_note({"mlflow.note.content": "The sweep `s` of SuperSNN."}, "s")
    assert own_note({"mlflow.note.content": "ours", "supersnn.note": digest("ours")}, "s")
    assert not own_note({"mlflow.note.content": "ours, and mine", "supersnn.note": digest("ours")}, "s")
    assert not own_note({"mlflow.note.content": "mine"}, "s")
