"""How many trials nodes hold, by their records in Ray."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supersnn.config_model import parse
from supersnn.errors import UserError
from tune.description.sweep import ResourcesConfig
from tune.execution.nodes import Node, bundle, living, slots, slots_on


def node(labels: dict[str, str] | None = None, **resources: float) -> Node:
    return Node("id", "name", resources, labels or {})


def test_a_node_holds_as_many_as_its_scarcest_resource_allows() -> None:
    need = ResourcesConfig(cpus=2, gpus=0.5, memory=2**30)
    assert slots_on(node(CPU=9, GPU=8, memory=2**40), need) == 4
    assert slots_on(node(CPU=90, GPU=1, memory=2**40), need) == 2
    assert slots_on(node(CPU=90, GPU=8, memory=3.5 * 2**30), need) == 3


def test_no_trial_is_spread_over_two_gpus() -> None:
    assert slots_on(node(CPU=90, GPU=2), ResourcesConfig(gpus=0.4)) == 4


def test_nodes_are_counted_one_by_one() -> None:
    assert slots([node(CPU=3), node(CPU=3)], ResourcesConfig(cpus=2)) == 2


def test_fractions_that_fill_a_node_fit() -> None:
    assert slots_on(node(CPU=1), ResourcesConfig(cpus=0.1)) == 10
    assert slots_on(node(CPU=0.3), ResourcesConfig(cpus=0.1)) == 3


def test_labels_and_accelerators_choose_nodes() -> None:
    need = ResourcesConfig(labels={"disk": "ssd"}, accelerator="A100")
    assert slots_on(node({"disk": "ssd"}, **{"CPU": 4, "accelerator_type:A100": 1}), need) == 4
    assert slots_on(node({"disk": "hdd"}, **{"CPU": 4, "accelerator_type:A100": 1}), need) == 0
    assert slots_on(node({"disk": "ssd"}, CPU=4), need) == 0


def test_dead_nodes_are_left_out() -> None:
    record = {"NodeID": "a", "NodeManagerHostname": "h", "NodeManagerAddress": "1", "Resources": {"CPU": 1.0}}
    nodes = living([{**record, "Alive": True, "Labels": {"x": "y"}}, {**record, "Alive": False}])
    assert [(n.id, n.name, n.labels) for n in nodes] == [("a", "h (1)", {"x": "y"})]


def test_memory_is_read_from_text() -> None:
    assert bundle(parse(ResourcesConfig, {"memory": "2GB"}, "test")) == {"CPU": 1.0, "memory": 2e9}
    with pytest.raises(UserError, match="memory"):
        parse(ResourcesConfig, {"memory": "much"}, "test")


def test_several_gpus_are_of_one_node() -> None:
    need = ResourcesConfig(gpus=2)
    assert slots([node(CPU=90, GPU=1), node(CPU=90, GPU=1)], need) == 0
    assert slots([node(CPU=90, GPU=3), node(CPU=90, GPU=8)], need) == 5
    assert bundle(need) == {"CPU": 1.0, "GPU": 2.0}


def test_several_gpus_are_an_integer() -> None:
    with pytest.raises(UserError, match=r"gpus: .*found 1\.5"):
        parse(ResourcesConfig, {"gpus": 1.5}, "test")


@given(st.floats(0.01, 8), st.integers(0, 64))
def test_slots_fill_a_node_and_never_exceed_it(cpus: float, have: int) -> None:
    held = slots_on(node(CPU=have), ResourcesConfig(cpus=cpus))
    assert held * cpus <= have * (1 + 1e-6)
    assert (held + 1) * cpus > have * (1 - 1e-6)
