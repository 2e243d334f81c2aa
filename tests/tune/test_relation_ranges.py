"""The default range of the relational term's weight, by its kind and scale."""

from typing import Any

import pytest
from rich.console import Console

from supersnn.config import RelationLossConfig
from supersnn.config_model import parse, to_yaml
from supersnn.plain_yaml import parse_yaml
from supersnn.records.state import SweepState
from supersnn.relations import RELATIONS
from tune.description.arms import resolve
from tune.description.plan import plan, plan_table
from tune.description.relation_ranges import RAW, RELATIVE
from tune.description.sweep import SweepConfig
from tune.description.warning_lines import warning_lines
from tune.notices import DescriptionWarned
from tune.terminal.board import Board
from tune.terminal.display import Display


def described(**more: Any) -> SweepConfig:
    plain = {
        "name": "ranges",
        "dataset": {"name": "digits"},
        "student": {"architecture": "resnet8"},
        "arms": {"direct": {}, "homogeneous": {"teachers": ["resnet8"]}},
        **more,
    }
    return parse(SweepConfig, plain, "test")


def ranges(**more: Any) -> dict[str, tuple[float, float] | None]:
    """Return the range of the weight in each arm of a sweep, which its stored file gives again."""
    sweep = described(**more)
    found = {name: arm.parameters.get("loss.relation.weight") for name, arm in resolve(sweep).items()}
    stored = parse(SweepConfig, parse_yaml(to_yaml(sweep)), "stored")
    assert {name: arm.parameters.get("loss.relation.weight") for name, arm in resolve(stored).items()} == found
    return {name: None if parameter is None else parameter.log for name, parameter in found.items()}


def arm(**values: Any) -> dict[str, Any]:
    return {"arms": {"direct": {}, "homogeneous": {"teachers": ["resnet8"], **values}}}


DEFAULT = {"space": {"loss.relation.weight": "default"}}


def test_every_kind_has_a_range() -> None:
    assert set(RAW) == {*RELATIONS, "angle", "rkd"}
    assert [RelationLossConfig(kind=kind).kind for kind in RAW] == list(RAW)


@pytest.mark.parametrize("given", [{}, DEFAULT])
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, RAW["centred_cosine"]),
        ({"loss": {"relation": {"kind": "gram"}}}, RAW["gram"]),
        ({"loss": {"relation": {"kind": "gram", "scale": "relative"}}}, RELATIVE),
        (arm(set={"loss.relation.kind": "gram"}), RAW["gram"]),
        (arm(set={"loss.relation.kind": "gram", "loss.relation.scale": "relative"}), RELATIVE),
        (arm(space={"loss.relation.kind": {"categorical": ["gram", "rkd"]}}), (0.1, 3000.0)),
    ],
)
def test_the_range_is_that_of_the_kinds_that_are_compared(
    given: dict[str, Any], values: dict[str, Any], expected: tuple[float, float]
) -> None:
    assert ranges(**given, **values) == {"direct": None, "homogeneous": expected}


def test_a_kind_that_the_space_chooses_widens_the_range() -> None:
    space = {"loss.relation.kind": {"categorical": ["cosine", "gram"]}}
    for weight in ({}, {"loss.relation.weight": "default"}):
        assert ranges(space={**space, **weight})["homogeneous"] == (0.3, 3000.0)


def test_a_range_of_ones_own_is_kept() -> None:
    space = {"loss.relation.weight": {"log": [1, 1000]}}
    assert ranges(space=space, loss={"relation": {"kind": "gram"}})["homogeneous"] == (1, 1000)
    own = arm(space={"loss.relation.weight": {"log": [2, 3]}}, set={"loss.relation.kind": "gram"})
    assert ranges(**DEFAULT, **own)["homogeneous"] == (2, 3)


GRAM: dict[str, Any] = {"loss": {"relation": {"kind": "gram"}}}
BELOW = "kind gram at the raw scale, 30 to 3000: the term would be negligible beside the label loss"


def weights(**parameter: Any) -> dict[str, Any]:
    return {"space": {"loss.relation.weight": parameter}}


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (GRAM | weights(log=[0.3, 10]), [f"0.3 to 10 is below the default range of {BELOW}"]),
        (
            weights(log=[100, 1000]),
            ["100 to 1000 is above the default range of kind centred_cosine at the raw scale, 0.3 to 30: "
             "the term would dominate the label loss"],
        ),
        (GRAM | arm(set={"loss.relation.weight": 1}), [f"1 is below the default range of {BELOW}"]),
        (
            arm(set={"loss.relation.scale": "relative"}, space={
                "loss.relation.kind": {"categorical": ["gram", "rkd"]},
                "loss.relation.weight": {"categorical": [5, 10]},
            }),
            ["5 to 10 is above the default range of the relative scale, 0.03 to 3: "
             "the term would dominate the label loss"],
        ),
        (
            arm(space={
                "loss.relation.kind": {"categorical": ["gram", "rkd"]},
                "loss.relation.weight": {"log": [0.3, 10]},
            }),
            [f"0.3 to 10 is below the default range of {BELOW}"],
        ),
        (GRAM | weights(log=[10, 40]), []),
        (GRAM, []),
        (GRAM | DEFAULT, []),
        (weights(uniform=[0.01, 1]), []),
    ],
)  # fmt: skip
def test_a_range_without_a_usual_weight_is_said(more: dict[str, Any], expected: list[str]) -> None:
    sweep = described(**more)
    arms = resolve(sweep)
    lines = [f"arms.homogeneous: loss.relation.weight {text}" for text in expected]
    assert warning_lines(arms) == lines
    planned = plan(sweep, arms)
    assert planned.get("warnings", []) == lines
    console = Console(width=300)
    with console.capture() as shown:
        console.print(plan_table(planned))
    assert all(f"warning: {line}" in shown.get() for line in lines)


def test_arms_with_the_same_range_share_a_line() -> None:
    arms = {"direct": {}, "homogeneous": {"teachers": ["resnet8"]}, "heterogeneous": {"teachers": ["vgg8"]}}
    (line,) = warning_lines(resolve(described(**GRAM, **weights(log=[0.3, 10]), arms=arms)))
    assert line.startswith("arms.homogeneous, arms.heterogeneous: loss.relation.weight 0.3 to 10 is below")


def test_the_line_is_shown_where_a_sweep_starts(capsys: pytest.CaptureFixture[str]) -> None:
    sweep = described()
    display = Display(Board(sweep, SweepState()))
    display.notice(DescriptionWarned("arms.homogeneous: loss.relation.weight …"))
    assert "warning: arms.homogeneous: loss.relation.weight …" in capsys.readouterr().err
