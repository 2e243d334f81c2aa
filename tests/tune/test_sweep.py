"""The sweep file: what it resolves to, and its errors of one line."""

from pathlib import Path
from typing import get_args

import pytest

from supersnn.config import TrainConfig
from supersnn.config_model import flatten, parse, read_yaml, to_yaml
from supersnn.errors import UserError
from supersnn.records.metrics import OBJECTIVES
from tune.description.arms import resolve
from tune.description.space import DEFAULTS
from tune.description.sweep import Objective, load

MINIMAL = """
name: tiny
dataset: {name: digits}
student: {architecture: resnet8}
arms:
  direct: {}
  homogeneous: {teachers: [resnet14]}
  heterogeneous: {teachers: [vgg8, wrn16_2]}
space:
  neuron.threshold: default
  loss.relation.weight: {log: [1, 100]}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "sweep.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_minimal_file_is_enough(tmp_path: Path) -> None:
    arms = resolve(load(write(tmp_path, MINIMAL)))
    assert list(arms["direct"].parameters) == ["neuron.threshold"]
    assert list(arms["heterogeneous"].parameters) == ["teacher.name", "neuron.threshold", "loss.relation.weight"]
    assert arms["direct"].parameters["neuron.threshold"] == DEFAULTS["neuron.threshold"]
    assert arms["homogeneous"].config({"loss.relation.weight": 3.0}).teacher.name == "resnet14"


def test_yaml_to_object_to_yaml_is_the_identity(tmp_path: Path) -> None:
    sweep = load(write(tmp_path, MINIMAL))
    again = write(tmp_path, to_yaml(sweep))
    assert load(again) == sweep
    assert to_yaml(load(again)) == to_yaml(sweep)
    config = resolve(sweep)["heterogeneous"].config({"teacher.name": "vgg8", "loss.relation.weight": 2.0})
    path = write(tmp_path, to_yaml(config))
    assert parse(TrainConfig, read_yaml(path), "x") == config


def test_a_misspelt_key_is_one_line_with_the_nearest_right_one(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL.replace("architecture:", "architectur:"))
    with pytest.raises(UserError) as caught:
        load(path)
    text = str(caught.value)
    assert str(path) in text
    assert "student.architectur" in text
    assert "did you mean 'student.architecture'?" in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("homogeneous: {teachers: [resnet14]}", "homogeneous: {teachers: [vgg8]}", ["vgg8", "'vgg'", "resnet"]),
        (
            "teachers: [vgg8, wrn16_2]",
            "teachers: [resnet14]",
            ["resnet14", "heterogeneous", "outside the students' families"],
        ),
        ("direct: {}", "direct: {teachers: [vgg8]}", ["direct", "no teacher"]),
        ("direct: {}", "feature: {}", ["feature", "at least one teacher"]),
        ("{teachers: [resnet14]}", "{teachers: [resnet14], losses: []}", ["no distillation loss; add one of relation"]),
        ("direct: {}", "direct: {losses: [relation]}", ["relation", "need teachers", "arms.direct.teachers"]),
        ("neuron.threshold: default", "neuron.treshold: default", ["neuron.treshold", "neuron.threshold"]),
        ("neuron.threshold: default", "neuron.treshold: {uniform: [0, 1]}", ["did you mean 'neuron.threshold'?"]),
        ("neuron.threshold: default", "seed: {int: [0, 9]}", ["seed", "cannot be searched"]),
        ("neuron.threshold: default", "neuron.threshold: {uniform: [-1, 1]}", ["neuron.threshold", "-1"]),
        (
            "neuron.threshold: default",
            "loss.logit.weight: default",
            ["loss.logit.weight", "parameter is not used by any arm"],
        ),
        ("[resnet14]", "[resnet14b]", ["arms.homogeneous.teachers: 'resnet14b' is unknown (did you mean 'resnet14'?)"]),
        ("direct: {}", "direct: {set: {teacher.views: 2}}", ["arms.direct.set: teacher.views", "the same images"]),
        ("neuron.threshold: default", "teacher.views: {int: [1, 9]}", ["space.teacher.views", "cannot be searched"]),
        ("[resnet14]", "[resnet14b]", ["resnet14b", "did you mean 'resnet14'?", "arms.homogeneous"]),
        ("name: tiny", "name: a/b", ["name"]),
        ("name: tiny", "name: tiny\nname: two", ["twice"]),
        ("name: tiny", "name: tiny\nresources: {gpus: 3}", ["train.shards", "batch_size 64", "3"]),
        (
            "name: tiny",
            "name: tiny\nresources: {gpus: 2}\ntrain: {shards: 4}",
            ["resources.gpus: 2", "train.shards: 4"],
        ),
        ("name: tiny", "name: tiny\nresources: {gpus: .5}\ntrain: {shards: 2}", ["resources.gpus: 0.5"]),
        ("neuron.threshold: default", "train.shards: {int: [1, 2]}", ["train.shards is the same in all trials"]),
        ("direct: {}", "direct: {set: {train.shards: 2}}", ["arms.direct: train.shards"]),
        (
            "space:\n",
            "train: {shards: 2}\nspace:\n  train.batch_size: {int: [32, 64]}\n",
            ["train.batch_size", "divisible by the 2 shards"],
        ),
    ],
)
def test_a_contradiction_is_refused(tmp_path: Path, old: str, new: str, words: list[str]) -> None:
    assert old in MINIMAL
    with pytest.raises(UserError) as caught:
        resolve(load(write(tmp_path, MINIMAL.replace(old, new))))
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("search", "words"),
    [
        ("{objectives: [synaptic_ops]}", "accuracy must be first"),
        ("{constraints: {spikes/rat: 1}}", "did you mean 'spikes/rate'?"),
        ("{scheduler: wilcoxon}", "seeds_per_trial must be at least 2"),
        ("{sampler: cmaes, objectives: [accuracy, synaptic_ops]}", "single objective only"),
    ],
)
def test_search_settings_refused(tmp_path: Path, search: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        load(write(tmp_path, f"{MINIMAL}search: {search}\n"))
    assert words in str(caught.value)


def test_objectives_agree_with_the_metrics() -> None:
    assert set(get_args(Objective)) == OBJECTIVES.keys()


def test_several_gpus_split_the_batches_into_as_many_shards(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL)
    for override in ("resources.gpus=2", "train.shards=2"):
        sweep = load(path, (override,))
        assert (sweep.train.shards, sweep.resources.cpus) == (2, 2.0)
        assert resolve(sweep)["direct"].config({}).train.shards == 2
    assert load(path, ("resources.gpus=2", "resources.cpus=8")).resources.cpus == 8
    assert (load(path).train.shards, load(path).resources.cpus) == (1, 1.0)


def test_overrides_replace_values_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL)
    sweep = load(path, ("search.trials=3", "train.epochs=2", "neuron.reset=soft"))
    assert (sweep.search.trials, sweep.train.epochs, sweep.neuron.reset) == (3, 2, "soft")
    for wrong, word in (("search.trials", "key=value"), ("search.trails=3", "search.trials"), ("name.x=3", "name")):
        with pytest.raises(UserError, match=word):
            load(path, (wrong,))


def test_an_arm_may_have_its_own_space_terms_and_values(tmp_path: Path) -> None:
    text = MINIMAL.replace(
        "direct: {}",
        "direct: {}\n  both: {teachers: [vgg8], losses: [relation, logit], set: {loss.logit.temperature: 2}, "
        "space: {neuron.threshold: {uniform: [1, 2]}}}\n  shuffled: {teachers: [vgg8]}",
    )
    arms = resolve(load(write(tmp_path, text)))
    both = arms["both"]
    assert both.terms == ("relation", "logit")
    assert both.parameters["neuron.threshold"].uniform == (1.0, 2.0)
    assert both.parameters["loss.logit.weight"] == DEFAULTS["loss.logit.weight"]
    config = both.config({"loss.relation.weight": 3.0, "loss.logit.weight": 1.0})
    assert config.loss.logit.temperature == 2
    assert not config.loss.relation.shuffle
    assert arms["shuffled"].config({"loss.relation.weight": 3.0}).loss.relation.shuffle
    assert arms["direct"].config({}).loss.terms_on() == ()
    assert flatten(arms["direct"].config({}))["teacher.name"] is None
