"""Conditions on trials, and their order."""

import pandas as pd
import pytest

from analysis.selection import ordered, plain, where
from supersnn.errors import UserError

TABLE = pd.DataFrame(
    {
        "arm": ["a", "a", "b", "b"],
        "trial": [0, 1, 0, 1],
        "value": [0.5, None, 0.7, 0.6],
        "feasible": pd.array([True, None, False, True], dtype="boolean"),
        "best": [False, False, True, False],
        "reason": [None, "nan", None, None],
        "optimizer.lr": [0.1, 0.2, None, 0.3],
        "neuron.reset": ["hard", "soft", None, "soft"],
        "loss.relation.pool": [1, 2, 4, 1],
        "spikes/rate": [0.1, 0.2, 0.3, 0.4],
    }
)


def selected(*conditions: str) -> list[tuple[str, int]]:
    rows = where(TABLE, conditions)
    return list(zip(rows["arm"].tolist(), rows["trial"].tolist(), strict=True))


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("optimizer.lr>=0.2", [("a", 1), ("b", 1)]),
        ("optimizer.lr < 2e-1", [("a", 0)]),
        ("optimizer.lr!=0.1", [("a", 1), ("b", 0), ("b", 1)]),
        ("neuron.reset=soft", [("a", 1), ("b", 1)]),
        ("neuron.reset != soft", [("a", 0), ("b", 0)]),
        ("arm=b", [("b", 0), ("b", 1)]),
        ("feasible=true", [("a", 0), ("b", 1)]),
        ("feasible=false", [("b", 0)]),
        ("best=true", [("b", 0)]),
        ("reason=nan", [("a", 1)]),
        ("loss.relation.pool==1", [("a", 0), ("b", 1)]),
        ("spike_rate<=0.2", [("a", 0), ("a", 1)]),
        ("spikes/rate>0.2", [("b", 0), ("b", 1)]),
        ("value>0", [("a", 0), ("b", 0), ("b", 1)]),
    ],
)
def test_conditions(condition: str, expected: list[tuple[str, int]]) -> None:
    assert selected(condition) == expected


def test_all_conditions_hold() -> None:
    assert selected("neuron.reset=soft", "value>0.5") == [("b", 1)]
    assert selected("value>0.9") == []


@pytest.mark.parametrize(
    ("condition", "fault"),
    [
        ("optimizer.lr", "expected a column"),
        ("optimiser.lr>1", r"no column 'optimiser\.lr' \(did you mean 'optimizer\.lr'\?\)"),
        ("optimizer.lr>fast", "expected a number, found 'fast'"),
        ("neuron.reset>3", "neuron.reset is not a number; expected = or !="),
        ("nothing=1", "its columns: arm, trial"),
    ],
)
def test_a_wrong_condition_is_one_line(condition: str, fault: str) -> None:
    with pytest.raises(UserError, match=fault) as error:
        where(TABLE, [condition])
    assert str(error.value).startswith(f"--where {condition}: ")


def test_order() -> None:
    assert ordered(TABLE, ["-value"])["value"].tolist()[:3] == [0.7, 0.6, 0.5]
    by_two = ordered(TABLE, ["loss.relation.pool", "-spike_rate"])
    assert by_two["spikes/rate"].tolist() == [0.4, 0.1, 0.2, 0.3]
    assert ordered(TABLE, []).equals(TABLE)
    with pytest.raises(UserError, match="--sort -valu: no column 'valu'"):
        ordered(TABLE, ["-valu"])


def test_missing_values_are_none() -> None:
    rows = plain(TABLE)
    assert rows[1]["value"] is None
    assert rows[1]["feasible"] is None
    assert rows[2]["optimizer.lr"] is None
    assert rows[0]["trial"] == 0
    assert rows[0]["feasible"] is True
