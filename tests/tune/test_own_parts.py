"""Parts of one's own in a sweep's description: what arms use, what is searched, what is refused before it starts."""

from pathlib import Path
from typing import Any

import optuna
import pytest

from supersnn.config_model import parse
from supersnn.errors import UserError
from supersnn.nested import merge, unflatten
from tests.support.plugins import package
from tune.description.arms import Arm, resolve
from tune.description.inspection import inspect_sweep
from tune.description.searches import planned
from tune.description.space import Values
from tune.description.sweep import SweepConfig
from tune.own_code import own_code
from tune.search.arm_study import ArmStudy
from tune.store import Store

SOURCE = """
import optuna
from torch.nn import functional

def big(layers, shape, classes, depth=2): return tiny(layers, shape, classes)
big.family = "big"

def rbf(vectors, scale=1.0): return torch.exp(-torch.cdist(vectors, vectors).square() / scale)
def quiet(student, teacher, labels): return student.features.mean()
def soft(student, teacher, labels): return functional.mse_loss(student.logits.mean(0), teacher.logits)
soft.needs = "logits"
def share(network, images, data): return 0.5

def bell(x, width, power=2.0): return torch.exp(-(x / width).abs() ** power)
def sampler(seed, constant=1): return optuna.samplers.RandomSampler(seed=seed + constant)
def scheduler(patience=2): return optuna.pruners.PatientPruner(optuna.pruners.MedianPruner(), patience)

# parts that do something wrong
def raises(layers, shape, classes): raise RuntimeError("no luck")
def no_backward(student, teacher, labels): return student.features.detach().mean() * float("nan")
def flat(vectors): return vectors.sum(1)
def wrong_metric(network, images, data): return "much"
def wrong_sampler(): return 3
class LateFault(nn.Module):
    spiking = True
    def __init__(self, steps): super().__init__(); self.steps = steps
    def forward(self, current, constant=False):
        if torch.is_grad_enabled() and current.requires_grad: raise RuntimeError("in training only")
        current = current.repeat(self.steps, 1, 1, 1) if constant else current
        return (current > 0).float()
class Optimizer(torch.optim.SGD):
    def step(self, closure=None): raise KeyError("momentum")
"""


@pytest.fixture
def module(tmp_path: Path) -> str:
    return package(tmp_path, SOURCE)


def described(**values: Any) -> SweepConfig:
    """Return a small sweep with the values of some dotted keys (a double underscore for the dot)."""
    plain = {
        "name": "own",
        "dataset": {"name": "digits", "images": 200, "augment": {"views": 2}},
        "student": {"architecture": "resnet8"},
        "teacher": {"epochs": 1},
        "train": {"epochs": 2},
        "search": {"trials": 2},
        "verify": {"seeds": 1},
        "arms": {"direct": {}},
    }
    arms = values.pop("arms", plain["arms"])
    flat = {key.replace("__", "."): value for key, value in values.items()}
    return parse(SweepConfig, merge(plain, unflatten(flat)) | {"arms": arms}, "own.yaml")


def arms_of(**values: Any) -> dict[str, Arm]:
    return resolve(described(**values), "own.yaml")


def test_own_terms_are_used_by_the_arms_that_name_them(module: str) -> None:
    arms = arms_of(
        loss__own=[{"term": f"{module}:quiet"}, {"term": f"{module}:soft", "weight": 2.0}],
        arms={
            "direct": {"losses": ["quiet"]},
            "homogeneous": {"teachers": ["resnet8"]},
            "both": {"teachers": ["vgg8"], "losses": ["relation", "soft"]},
        },
    )
    assert arms["direct"].terms == ("quiet",)
    assert arms["direct"].parameters["loss.own.quiet.weight"].log == (0.05, 5.0)
    assert arms["homogeneous"].terms == ("relation",)
    own = arms["homogeneous"].base["loss"]["own"]
    assert (own["quiet"]["weight"], own["soft"]["weight"]) == (0.0, 0.0)
    assert "loss.own.soft.weight" not in arms["both"].parameters
    assert arms["both"].config({"loss.relation.weight": 1.0}).loss.terms_on() == ("relation", "soft")


def test_pairings_of_own_networks_go_by_their_families(module: str) -> None:
    path, big = f"{module}:tiny", f"{module}:big"
    arms_of(arms={"homogeneous": {"students": [path], "teachers": [path]}})
    arms_of(arms={"heterogeneous": {"students": [path], "teachers": [big, "resnet8"]}})
    with pytest.raises(UserError, match="a heterogeneous arm needs teachers outside the students' families"):
        arms_of(arms={"heterogeneous": {"students": [path], "teachers": [path]}})
    with pytest.raises(UserError, match="is of family 'big'; a homogeneous arm needs teachers of"):
        arms_of(arms={"homogeneous": {"students": [path], "teachers": [big]}})


def test_arguments_are_searched_and_go_to_the_parts_that_have_them(module: str) -> None:
    arms = arms_of(
        student__architecture=f"{module}:tiny",
        student__arguments__width=3,
        teacher__arguments__depth=3,
        space={
            "student.arguments.width": {"int": [2, 6]},
            "loss.relation.kind": {"categorical": ["gram", f"{module}:rbf"]},
            "loss.relation.arguments.scale": {"uniform": [1, 2], "when": {"loss.relation.kind": f"{module}:rbf"}},
        },
        arms={"direct": {}, "both": {"teachers": [f"{module}:big", "resnet8"]}},
    )
    values: Values = {"student.arguments.width": 5, "loss.relation.weight": 1.0, "loss.relation.kind": "gram"}
    assert arms["direct"].config({"student.arguments.width": 4}).student.arguments == {"width": 4}
    own = arms["both"].config({**values, "teacher.name": f"{module}:big"})
    assert own.teacher.arguments == {"depth": 3}
    assert arms["both"].config({**values, "teacher.name": "resnet8"}).teacher.arguments == {}
    rbf: Values = {"loss.relation.kind": f"{module}:rbf", "loss.relation.arguments.scale": 1.5}
    assert arms["both"].config({**values, "teacher.name": "resnet8", **rbf}).loss.relation.arguments == {"scale": 1.5}


def test_arguments_of_a_surrogate_are_searched(module: str) -> None:
    space = {"neuron.surrogate_arguments.power": {"uniform": [1, 3]}}
    arm = arms_of(neuron__surrogate=f"{module}:bell", space=space)["direct"]
    assert arm.config({"neuron.surrogate_arguments.power": 1.5}).neuron.surrogate_arguments == {"power": 1.5}
    with pytest.raises(UserError, match="'triangle' takes none"):
        arms_of(space=space)


def test_own_samplers_and_schedulers_search(module: str) -> None:
    sweep = described(
        search__sampler=f"{module}:sampler",
        search__sampler_arguments__constant=7,
        search__scheduler=f"{module}:scheduler",
        space={"neuron.threshold": {"uniform": [0.3, 1.0]}},
    )
    search = planned(sweep)["direct"]
    suggestions = []
    for _ in range(2):
        study = ArmStudy(search, optuna.storages.InMemoryStorage())
        suggestions.append([study.ask().values["neuron.threshold"] for _ in range(3)])
        assert isinstance(study._study.pruner, optuna.pruners.PatientPruner)
    assert suggestions[0] == suggestions[1]
    assert len(set(suggestions[0])) == 3


def test_a_sweep_of_own_parts_that_are_right_passes_the_inspection(module: str, tmp_path: Path) -> None:
    sweep = described(
        student__architecture=f"{module}:tiny",
        loss__own=[{"term": f"{module}:soft"}],
        train__metrics=[f"{module}:share"],
        search__constraints={"own/share": 0.6},
        arms={"direct": {}, "both": {"teachers": [f"{module}:big"], "losses": ["relation", "soft"]}},
    )
    summary = inspect_sweep(sweep, resolve(sweep, "own.yaml"), Store.at(tmp_path / "store"), "own.yaml")
    assert summary[""].fault is None


def test_what_identifies_own_code(module: str, tmp_path: Path) -> None:
    name = module.partition(".")[0]
    found = own_code([str(tmp_path / name)], [f"{module}:tiny", "torch.optim:RMSprop", "yaml:load"])
    assert found.identities[name].startswith("sha256:")
    assert found.identities["yaml"].startswith("version ")
    assert found.identities.keys() == {name, "yaml"}
    assert [folder.name for folder in found.folders] == [name]


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no module": ({"student__architecture": "nowhere.nets:Net"}, "there is no module 'nowhere'"),
    "no attribute": ({"student__architecture": "{m}:tin"}, r"no attribute 'tin' .*did you mean 'tiny'"),
    "no import path": ({"student__architecture": "{m}:not a name"}, "expected an import path"),
    "argument": ({"student__architecture": "{m}:tiny", "student__arguments__widht": 3}, "did you mean 'width'"),
    "argument of nothing": ({"student__arguments__width": 3}, "no arm uses a part of your own"),
    "raises": ({"student__architecture": "{m}:raises"}, "raises RuntimeError: no luck"),
    "neuron without spikes": ({"neuron__kind": "torch.nn:Identity"}, "spiking = True"),
    "fault in training": ({"neuron__kind": "{m}:LateFault"}, "a training step fails: RuntimeError: in training only"),
    "surrogate": ({"neuron__surrogate": "{m}:flat"}, r"'.*:flat' raises TypeError"),
    "optimiser": ({"optimizer__name": "{m}:Optimizer"}, "a training step fails: KeyError: 'momentum'"),
    "no optimiser": ({"optimizer__name": "{m}:share"}, "requires this argument|has no argument"),
    "metric": ({"train__metrics": ["{m}:wrong_metric"]}, "train.metrics: .* raises ValueError: could not convert"),
    "constraint": ({"search__constraints": {"own/none": 1}}, "'own/none' is no metric of train.metrics"),
    "term without arm": ({"loss__own": [{"term": "{m}:quiet"}]}, "loss.own.quiet: no arm uses this loss"),
    "needs a teacher": (
        {"loss__own": [{"term": "{m}:soft"}], "arms": {"direct": {"losses": ["soft"]}}},
        r"losses: \['soft'\] need teachers",
    ),
    "unknown term": ({"arms": {"a": {"teachers": ["vgg8"], "losses": ["relatoin"]}}}, r"did you mean 'relation'"),
    "relation": (
        {"loss__relation__kind": "{m}:flat", "arms": {"a": {"teachers": ["vgg8"]}}},
        r"expected a matrix \[B, B\]",
    ),
    "sampler": ({"search__sampler": "{m}:wrong_sampler"}, "expected one of Optuna's samplers, found int"),
    "sampler's arguments": (
        {"search__sampler": "{m}:sampler", "search__sampler_arguments__constnt": 1},
        r"search\.sampler_arguments\.constnt: .*did you mean 'constant'",
    ),
    "scheduler": ({"search__scheduler": "{m}:share"}, "requires this argument|expected one of Optuna's pruners"),
    "data": ({"dataset__name": "{m}:share"}, r"dataset\.name: .*requires this argument|raises"),
    "not under plugins": ({"student__architecture": "tests.support.nets:net"}, "not installed|no module"),
    "plugin": ({"plugins": ["./nowhere"]}, "plugins: ./nowhere: no such folder"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_wrong_parts_are_one_line_before_anything_starts(fault: str, module: str, tmp_path: Path) -> None:
    values, words = WRONG[fault]
    filled: dict[str, Any] = yaml_of(values, module)
    with pytest.raises(UserError, match=words) as error:
        started(filled, tmp_path / "store")
    assert "\n" not in str(error.value)
    assert str(error.value).startswith("own.yaml: ")


def started(values: dict[str, Any], store: Path) -> None:
    """Do what the start of a sweep does before it trains."""
    sweep = described(**values)
    inspect_sweep(sweep, resolve(sweep, "own.yaml"), Store.at(store), "own.yaml")


def yaml_of(value: Any, module: str) -> Any:
    """Return plain values with the module's name in place of ``{m}``."""
    if isinstance(value, dict):
        return {key: yaml_of(one, module) for key, one in value.items()}
    if isinstance(value, list):
        return [yaml_of(one, module) for one in value]
    return value.replace("{m}", module) if isinstance(value, str) else value
