"""Overrides of a sweep file: what `--set` replaces."""

from pathlib import Path

import pytest

from supersnn.errors import UserError
from tune.description.overrides import parse_override, with_override
from tune.description.sweep import load

FILE = """
name: tiny
dataset: {name: digits}
student: {architecture: resnet8}
arms:
  direct: {}
  my.arm: {teachers: [vgg8], space: {optimizer.lr: {log: [0.01, 0.1]}}}
space:
  neuron.threshold: {uniform: [0.3, 2.0]}
  optimizer.lr: {log: [0.01, 0.3]}
search: {trials: 4, constraints: {spikes/rate: 0.15, energy/nj: 5}}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "sweep.yaml"
    path.write_text(FILE, encoding="utf-8")
    return path


def test_a_mapping_is_replaced_as_a_whole(file: Path) -> None:
    assert load(file, ("search.constraints={}",)).search.constraints == {}
    assert load(file, ("search.constraints={energy/nj: 7}",)).search.constraints == {"energy/nj": 7.0}
    assert list(load(file, ("space={neuron.decay: default}",)).space) == ["neuron.decay"]
    assert load(file, ("search.trials=5",)).search.constraints == {"spikes/rate": 0.15, "energy/nj": 5.0}


def test_keys_with_dots_are_search_parameters(file: Path) -> None:
    changed = load(file, ("space.optimizer.lr={log: [0.02, 0.2]}", "space.neuron.decay=default"))
    assert changed.space["optimizer.lr"].log == (0.02, 0.2)
    assert "neuron.decay" in changed.space
    assert load(file, ("space.optimizer.lr.log=[0.05, 0.2]",)).space["optimizer.lr"].log == (0.05, 0.2)
    arm = load(file, ("arms.my.arm.space.optimizer.lr.log=[0.05, 0.2]",)).arms["my.arm"]
    assert arm.space["optimizer.lr"].log == (0.05, 0.2)
    assert load(file, ("arms.direct.set.neuron.decay=0.3",)).arms["direct"].set == {"neuron.decay": 0.3}
    assert load(file, ("arms.new.teachers=[vgg8]",)).arms["new"].teachers == ("vgg8",)
    assert load(file, ("search.constraints.spikes/rate=0.2",)).search.constraints["spikes/rate"] == 0.2


def test_a_mistake_names_the_option_only_where_the_file_is_right(file: Path) -> None:
    with pytest.raises(UserError, match=r"sweep\.yaml with --set: search\.trails"):
        load(file, ("search.trails=5",))
    with pytest.raises(UserError, match=r"sweep\.yaml with --set: space\.optimizer\.lr"):
        load(file, ("space.optimizer.lr={log: [0.3, 0.01]}",))
    file.write_text(FILE.replace("trials:", "trails:"), encoding="utf-8")
    with pytest.raises(UserError, match=r"sweep\.yaml: search\.trails"):
        load(file, ("search.trials=5",))


def test_overrides_that_cannot_be(file: Path) -> None:
    with pytest.raises(UserError, match="'trials' is inside a value, not a section"):
        with_override({"name": "a"}, "name.trials", 1)
    for text in ("search.trials", "=5"):
        with pytest.raises(UserError, match="expected key=value"):
            parse_override(text)
    assert load(file, ("name=x", "name=y")).name == "y"
