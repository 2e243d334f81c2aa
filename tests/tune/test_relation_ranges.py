"""The default range of the relational term's weight, by its kind and scale."""

from typing import Any

import pytest

from supersnn.config import RelationLossConfig
from supersnn.config_model import parse, parse_yaml, to_yaml
from supersnn.relations import RELATIONS
from tune.description.arms import resolve
from tune.description.relation_ranges import RAW, RELATIVE
from tune.description.sweep import SweepConfig


def ranges(**more: Any) -> dict[str, tuple[float, float] | None]:
    """Return the range of the weight in each arm of a sweep, which its stored file gives again."""
    plain = {
        "name": "ranges",
        "dataset": {"name": "digits"},
        "student": {"architecture": "resnet8"},
        "arms": {"direct": {}, "homogeneous": {"teachers": ["resnet8"]}},
        **more,
    }
    sweep = parse(SweepConfig, plain, "test")
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
