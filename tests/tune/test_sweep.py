"""The sweep file: what it resolves to, and its errors of one line."""

from pathlib import Path
from typing import get_args

import pytest

from supersnn.config import TrainConfig
from supersnn.config_model import parse, to_yaml
from supersnn.errors import UserError
from supersnn.nested import flatten
from supersnn.plain_yaml import read_yaml
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
        ("[resnet14]", "[resnet14, resnet14]", ["arms.homogeneous.teachers: 'resnet14' is given twice"]),
        ("[resnet14]", "[resnet14], students: [resnet8, vgg8]", ["arms.homogeneous.teachers: resnet14"]),
        ("direct: {}", "direct: {}\n  Direct: {}", ["'direct' and 'Direct' differ in case only"]),
        ("direct: {}", "overall: {}", ["arms: 'overall' is reserved"]),
        ("direct: {}", f"{'a' * 101}: {{}}", ["101 characters; expected at most 100"]),
        ("name: tiny", f"name: {'a' * 300}", ["300 characters; expected at most 100"]),
        ("name: tiny", "name: tiny\nteacher: {name: vgg8}", ["teacher.name", "arms.NAME.teachers"]),
        ("name: tiny", "name: tiny\nseed: 2024-13-45", ["seed", "2024-13-45"]),
        ("name: tiny", "name: tiny\nverify: {first_seed: 0}", ["verify.first_seed", "seeds that chose nothing"]),
        ("name: tiny", "name: tiny\nloss: {logit: {weight: 1}}", ["loss.logit.weight: no arm uses this loss"]),
        ("space:", "space:\n  student.architecture: {categorical: [vgg8, resnet8]}", ["give several students"]),
        ("space:", "space:\n  train.epochs: {int: [1, 9]}", ["train.epochs", "the same budget"]),
        ("space:", "space:\n  neuron.reset: {categorical: [hard, bogus, soft]}", ["neuron.reset", "found 'bogus'"]),
        ("space:", "space:\n  train.batch_size: {categorical: [16, 1, 32]}", ["train.batch_size", "found 1"]),
        ("space:", "space:\n  train.batch_size: {int: [1, 32]}", ["train.batch_size", "found 1"]),
        ("space:", "space:\n  train.batch_size: {categorical: [16, 'x32']}", ["train.batch_size", "found 'x32'"]),
        ("space:", "space:\n  train.batch_size: {categorical: [16, '32']}", ["train.batch_size", "another type"]),
        ("space:", "space:\n  optimizer.lr: {uniform: [-0.1, 0.1]}", ["optimizer.lr", "found -0.1"]),
        ("space:", "space:\n  neuron.decay: {uniform: [0.1, 1.0]}", ["neuron.decay", "found 1.0"]),
        ("{log: [1, 100]}", "{categorical: [0, 1]}", ["the weight of every loss term with a teacher is zero"]),
        ("space:", "space:\n  neuron.decay: {uniform: [0.1, 0.9], size: 1}", ["known keys: uniform, log, int, cat"]),
        ("direct: {}", "direct: {set: {train.epochs: 50}}", ["arms.direct.set: train.epochs", "the same budget"]),
        ("direct: {}", "direct: {set: {teacher.epochs: 50}}", ["arms.direct.set: teacher.epochs", "share"]),
        ("direct: {}", "direct: {set: {student.architecture: vgg8}}", ["set the arm's students instead"]),
        ("direct: {}", "direct: {set: {neuron.rest: soft}}", ["did you mean 'neuron.reset'?"]),
        ("direct: {}", "direct: {set: {neuron.threshold: '2'}}", ["neuron.threshold", "expected a value like 2.0"]),
        ("direct: {}", "direct: {set: {loss.logit.weight: 2}}", ["does not use the logit loss"]),
        (
            "direct: {}",
            "direct: {set: {neuron.reset: soft}, space: {neuron.reset: default}}",
            ["is in the arm's space too"],
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
        ("{trials: yes}", "search.trials: expected a number, found true"),
        ("{trials: 10000000}", "search.trials: expected at most 1,000,000, found 10,000,000"),
        ("{min_epochs: 13}", "search.min_epochs: expected at most train.epochs, 12, found 13"),
        ("{constraints: {spikes/rate: -1}}", "never below 0"),
        ("{warm_start: [tiny]}", "this sweep itself"),
        ("{warm_start: [a, a]}", "'a' is given twice"),
        ("{enqueue: [{neuron.treshold: 1}]}", "enqueue.0: 'neuron.treshold' is not searched by any arm (did you mean"),
        ("{enqueue: [{neuron.threshold: 1}, {neuron.threshold: 5}]}", "enqueue.1: neuron.threshold: expected a value"),
        (
            "{enqueue: [{neuron.threshold: high}]}",
            "enqueue.0: neuron.threshold: expected a value of uniform: [0.3, 2.0]",
        ),
        ("{enqueue: [{neuron.threshold: yes}]}", "found True"),
        ("{enqueue: [{teacher.name: vgg11}]}", "as in arm heterogeneous, found 'vgg11'"),
        ("{enqueue: [{}]}", "expected values of searched keys"),
        (
            "{sampler: grid, trials: 6}",
            "the grid of arm direct has 5 points; expected at most that many trials, found 6",
        ),
        ("{sampler: grid, trials: 5, enqueue: [{neuron.threshold: 1}]}", "the points of its grid only"),
        ("{sampler: grid, trials: 5, fair: compute}", "expected trials"),
    ],
)
def test_search_settings_refused(tmp_path: Path, search: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        resolve(load(write(tmp_path, f"{MINIMAL}search: {search}\n")))
    assert "\n" not in str(caught.value)
    assert words in str(caught.value)


def test_a_large_grid_is_refused_by_its_size_without_being_built(tmp_path: Path) -> None:
    keys = [key for key in DEFAULTS if not key.startswith("loss.")]
    space = "".join(f"  {key}: default\n" for key in keys)
    text = MINIMAL.replace("  neuron.threshold: default\n", space) + "search: {sampler: grid}\n"
    with pytest.raises(UserError, match=r"the grid of arm direct has 25,000 points \(7 parameters\); .* 10,000"):
        resolve(load(write(tmp_path, text)))


CONDITIONAL = """  neuron.width: {log: [0.5, 2], when: {neuron.surrogate: [atan, sigmoid]}}
  neuron.surrogate: {categorical: [triangle, atan, sigmoid]}
"""


def test_a_conditional_parameter_may_be_before_the_one_it_depends_on(tmp_path: Path) -> None:
    parameters = resolve(load(write(tmp_path, MINIMAL + CONDITIONAL)))["direct"].parameters
    assert list(parameters) == ["neuron.threshold", "neuron.surrogate", "neuron.width"]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            "[atan, sigmoid]}}",
            "rectangle}}",
            "space.neuron.width: when: neuron.surrogate is never 'rectangle': its range",
        ),
        ("[atan, sigmoid]}}", "[atan, sigmod]}}", "neuron.surrogate is never 'sigmod'"),
        ("neuron.surrogate: [atan, sigmoid]}}", "neuron.kind: relu}}", "neuron.kind is never 'relu': it is 'lif'"),
        ("neuron.surrogate: [atan, sigmoid]}}", "neuron.threshold: 1.0}}", "neuron.threshold is never 1.0"),
        ("neuron.surrogate: [atan, sigmoid]}}", "neuron.surogate: atan}}", "did you mean 'neuron.surrogate'?"),
        ("neuron.surrogate: [atan, sigmoid]}}", "neuron.surrogate: []}}", "when: expected a value or several"),
        ("sigmoid]}\n", "sigmoid], when: {neuron.width: 1}}\n", "its condition depends on itself: neuron.width → "),
        (
            "  neuron.surrogate:",
            "  neuron.reset: {categorical: [hard, soft], when: {neuron.surrogate: atan}}\n"
            "  neuron.decay: {uniform: [0.1, 0.9], when: {neuron.reset: soft, neuron.surrogate: sigmoid}}\n"
            "  neuron.surrogate:",
            "space.neuron.decay: when: its conditions never hold together",
        ),
    ],
)
def test_a_condition_that_can_never_hold_is_refused(tmp_path: Path, old: str, new: str, words: str) -> None:
    assert old in CONDITIONAL
    with pytest.raises(UserError) as caught:
        resolve(load(write(tmp_path, MINIMAL + CONDITIONAL.replace(old, new, 1))))
    assert words in str(caught.value)


ONE_ARM = """
name: tiny
dataset: {name: digits}
student: {architecture: resnet8}
arms:
  homogeneous: {teachers: [resnet8, resnet14], losses: [relation, logit]}
space:
"""
MOMENTUM = "  optimizer.momentum: {uniform: [0.0, 0.9], step: 0.1}\n"
TIME_STEPS = "  student.time_steps: {int: [1, 3]}\n"
RELATION, LOGIT = "  loss.relation.weight: {log: [1, 9], when: {", "  loss.logit.weight: {log: [1, 9], when: {"


@pytest.mark.parametrize(
    ("space", "refused"),
    [
        (f"{RELATION}student.time_steps: 2}}}}\n{LOGIT}student.time_steps: 2}}}}\n", False),  # a fixed key
        (f"{TIME_STEPS}{RELATION}student.time_steps: 2}}}}\n", False),  # the logit weight always exists
        (f"{TIME_STEPS}{RELATION}student.time_steps: 2}}}}\n{LOGIT}student.time_steps: [1, 3]}}}}\n", False),
        (f"{TIME_STEPS}{RELATION}student.time_steps: 2}}}}\n{LOGIT}student.time_steps: [1, 2]}}}}\n", True),
        (f"{RELATION}teacher.name: resnet8}}}}\n{LOGIT}teacher.name: resnet14}}}}\n", False),
        (f"{RELATION}teacher.name: resnet8}}}}\n{LOGIT}teacher.name: resnet8}}}}\n", True),
        (f"{RELATION}teacher.name: resnet8}}}}\n  loss.logit.weight: {{categorical: [0, 1]}}\n", True),
        (f"{MOMENTUM}{RELATION}teacher.name: resnet8}}}}\n{LOGIT}optimizer.momentum: [0.9, 0.5, 0.0]}}}}\n", True),
        (f"{TIME_STEPS}{RELATION}student.time_steps: [1, 2]}}}}\n{LOGIT}loss.relation.time: mean}}}}\n", False),
    ],
)
def test_an_arm_has_a_teacher_weight_in_every_branch_of_its_space(tmp_path: Path, space: str, refused: bool) -> None:
    file = write(tmp_path, ONE_ARM + space)
    if not refused:
        assert resolve(load(file))
        return
    with pytest.raises(UserError, match=r"arms\.homogeneous.*the weight of every loss term with a teacher is zero"):
        resolve(load(file))


def test_a_condition_may_hold_in_one_arm_alone(tmp_path: Path) -> None:
    text = MINIMAL.replace("direct: {}", "direct: {set: {neuron.reset: soft}}")
    text += "  neuron.decay: {uniform: [0.1, 0.9], when: {neuron.reset: soft}}\n"
    assert "neuron.decay" in resolve(load(write(tmp_path, text)))["direct"].parameters
    enqueue = "search: {enqueue: [{neuron.decay: 0.5}]}\n"
    assert resolve(load(write(tmp_path, text + enqueue)))
    with pytest.raises(UserError, match="its condition does not hold"):
        resolve(
            load(
                write(
                    tmp_path,
                    MINIMAL + CONDITIONAL + enqueue.replace("decay: 0.5", "width: 1, neuron.surrogate: triangle"),
                )
            )
        )


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
