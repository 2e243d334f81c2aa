"""Trainings with parts of one's own: terms, neurons, surrogates, relations, optimisers, metrics; resumed as well."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from supersnn.config import TrainConfig
from supersnn.config_model import with_values
from supersnn.data import TrainingData
from supersnn.digests import digest
from supersnn.errors import UserError
from supersnn.nested import flatten
from supersnn.networks.build import build
from supersnn.teacher_outputs import as_teacher_outputs, compute_outputs, needed_outputs
from supersnn.teachers import recipe
from supersnn.testing import assert_part
from supersnn.training import train
from tests.support.plugins import package

Configured = Callable[..., TrainConfig]
OWN = """
from torch.nn import functional

def rbf(vectors, scale=1.0):
    squares = torch.cdist(vectors, vectors).square()
    return torch.exp(-squares / (scale * squares.detach().mean() + 1e-9))

def gauss(x, width):
    return torch.exp(-(x / width) ** 2)

def quiet(student, teacher, labels, power=1):
    return student.features.mean() ** power

class Projected(nn.Module):
    needs = ("vectors", "logits")
    def __init__(self, channels):
        super().__init__()
        self.projection = nn.Linear(channels, 64)
    def forward(self, student, teacher, labels):
        return functional.mse_loss(self.projection(student.features.mean((0, 3, 4))), teacher.vectors[1])

class Momentum(torch.optim.Optimizer):
    def __init__(self, params, lr, beta=0.5):
        super().__init__(params, {"lr": lr, "beta": beta})
    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    state = self.state[p]
                    state["n"] = state.get("n", 0) + 1
                    state["m"] = group["beta"] * state.get("m", torch.zeros_like(p)) + p.grad
                    p.sub_(group["lr"] * state["m"] / (1 - group["beta"] ** state["n"]))

def confidence(network, images, data):
    return float(network(images.pixels.float() / 255).logits.mean(0).softmax(1).amax(1).mean())

class Leaky(nn.Module):
    spiking = True
    def __init__(self, steps, threshold, scale=1.0):
        super().__init__()
        self.steps, self.threshold, self.scale = steps, threshold, scale
    def forward(self, current, constant=False):
        current = current.repeat(self.steps, *[1] * (current.dim() - 1)) if constant else current
        soft = torch.sigmoid(self.scale * (current - self.threshold))
        return (current >= self.threshold).to(current.dtype) + (soft - soft.detach())
"""


class Outputs:
    """The outputs of an untrained teacher, computed for each batch."""

    def __init__(self, config: TrainConfig, data: TrainingData) -> None:
        torch.manual_seed(1)
        teacher = recipe(config)

        self.network = build(teacher.student, teacher.neuron, data.shape, len(data.classes)).eval()
        self.kinds = needed_outputs(config.loss)

    def __call__(self, position: torch.Tensor, view: int, images: torch.Tensor) -> Any:
        del position, view
        return as_teacher_outputs(compute_outputs(self.network, images, self.kinds))


@pytest.fixture
def own(tmp_path: Path, configured: Configured) -> TrainConfig:
    module = package(tmp_path, OWN)
    return configured(
        student__architecture=f"{module}:tiny",
        student__arguments__width=6,
        neuron__kind=f"{module}:Leaky",
        neuron__arguments__scale=2.0,
        teacher__name="resnet8",
        loss__relation__weight=1.0,
        loss__relation__kind=f"{module}:rbf",
        loss__relation__arguments__scale=2.0,
        loss__own=[
            {"term": f"{module}:quiet", "weight": 0.5, "arguments": {"power": 2}},
            {"term": f"{module}:Projected", "weight": 0.1, "arguments": {"channels": 12}},
        ],
        optimizer__name=f"{module}:Momentum",
        optimizer__arguments__beta=0.7,
        train__metrics=[f"{module}:confidence"],
    )


def test_a_training_of_own_parts_continues_to_the_same_bits(own: TrainConfig, bars: TrainingData) -> None:
    source = Outputs(own, bars)
    reports = list(train(own, bars, source))
    metrics = reports[-1].metrics
    assert {"loss/quiet", "loss/quiet_weighted", "loss/Projected", "own/confidence", "spikes/rate"} <= metrics.keys()
    assert metrics["loss/quiet_weighted"] == pytest.approx(0.5 * metrics["loss/quiet"])
    assert 0.25 <= metrics["own/confidence"] <= 1
    tensors, _ = reports[-1].snapshot()
    assert tensors["own.Projected.projection.weight"].shape == (64, 12)
    first = next(iter(train(own, bars, source))).snapshot()
    (*_, last) = train(own, bars, source, resume=first)
    resumed, _ = last.snapshot()
    assert all(torch.equal(tensors[name], resumed[name]) for name in tensors)
    assert [r.metrics["train/loss"] for r in reports[1:]] == [
        metrics["train/loss"] for metrics in last.snapshot()[1]["history"][1:]
    ]


def test_own_terms_change_the_training_by_their_weights(own: TrainConfig, bars: TrainingData) -> None:
    source = Outputs(own, bars)
    losses = {}
    for weight in (0.0, 0.5, 5.0):
        changed = with_values(own, {"loss.own.quiet.weight": weight, "train.epochs": 1})
        (report,) = train(changed, bars, source)
        losses[weight] = report.metrics
    assert "loss/quiet" not in losses[0.0]
    assert losses[5.0]["train/loss"] > losses[0.5]["train/loss"]


def test_an_own_surrogate_runs_in_the_eager_kernel(tmp_path: Path, configured: Configured, bars: TrainingData) -> None:
    module = package(tmp_path, OWN)
    values = {"train__epochs": 2}
    (*_, triangle), (*_, gauss) = (
        train(configured(**values, neuron__surrogate=name), bars) for name in ("triangle", f"{module}:gauss")
    )
    assert gauss.ended == "finished"
    assert gauss.metrics["train/loss"] != triangle.metrics["train/loss"]


def test_an_own_surrogate_takes_arguments(tmp_path: Path, configured: Configured, bars: TrainingData) -> None:
    source = "\ndef bell(x, width, power=2.0):\n    return torch.exp(-(x / width).abs() ** power)\n"
    path = f"{package(tmp_path, source)}:bell"
    losses = []
    for arguments in ({}, {"power": 2.0}, {"power": 0.5}):
        neuron = {"neuron__surrogate": path, "neuron__surrogate_arguments": arguments}
        (report,) = train(configured(train__epochs=1, **neuron), bars)
        losses.append(report.metrics["train/loss"])
    assert losses[0] == losses[1] != losses[2]
    assert_part(path, "surrogate", power=1.0)
    with pytest.raises(UserError, match=r"surrogate_arguments\.pover: .* \(did you mean 'power'\?\)"):
        next(iter(train(configured(neuron__surrogate=path, neuron__surrogate_arguments={"pover": 1.0}), bars)))
    with pytest.raises(UserError, match="surrogate_arguments: 'triangle' takes none"):
        with_values(configured(), {"neuron.surrogate_arguments": {"power": 1.0}})


def test_a_term_that_needs_a_teacher_is_refused_without_one(own: TrainConfig, bars: TrainingData) -> None:
    alone = with_values(own, {"teacher.name": None, "loss.relation.weight": 0.0})
    with pytest.raises(UserError, match=r"loss\.own\.Projected: .* needs the teacher's vectors, logits; set teacher"):
        next(iter(train(alone, bars)))
    (report,) = train(with_values(alone, {"loss.own.Projected.weight": 0.0, "train.epochs": 1}), bars)
    assert "loss/quiet" in report.metrics


def test_a_term_that_reads_a_teacher_without_saying_so_is_told_how(
    own: TrainConfig, bars: TrainingData, tmp_path: Path
) -> None:
    module = package(tmp_path, "\ndef soft(student, teacher, labels, power=1):\n    return teacher.logits.mean()\n")
    terms = {"loss.own.quiet.term": f"{module}:soft", "loss.own.Projected.weight": 0.0, "loss.relation.weight": 0.0}
    alone = with_values(own, {"teacher.name": None, **terms})
    words = r"it\.py:\d+\); it was given no outputs of a teacher: .* needs = \('logits',\)"
    with pytest.raises(UserError, match=words):
        next(iter(train(alone, bars)))


def test_arguments_are_part_of_the_digest_and_plugins_are_not(own: TrainConfig) -> None:
    assert digest(own) != digest(with_values(own, {"student.arguments.width": 7}))
    assert digest(own) == digest(own.model_copy(update={"plugins": ("./elsewhere",)}))
    assert flatten(own)["student.arguments.width"] == 6
    assert flatten(own)["loss.own.quiet.weight"] == 0.5
    assert hash(own.student) != hash(with_values(own, {"student.arguments.width": 7}).student)


@pytest.mark.parametrize(
    ("name", "kind", "arguments"),
    [
        ("rbf", "relation", {}),
        ("gauss", "surrogate", {}),
        ("quiet", "loss", {}),
        ("Momentum", "optimizer", {}),
        ("confidence", "metric", {}),
        ("Leaky", "neuron", {}),
    ],
)
def test_parts_pass_the_public_check(name: str, kind: str, arguments: dict[str, Any], tmp_path: Path) -> None:
    path = f"{package(tmp_path, OWN)}:{name}"
    assert_part(path, kind, **arguments)
    assert_part(path, **arguments)  # its kind is found


@pytest.mark.parametrize(
    ("source", "kind", "words"),
    [
        ("def part(vectors): return vectors", "relation", r"expected a matrix \[B, B\]"),
        ("def part(vectors): return vectors @ vectors.T / vectors.norm(dim=1)", "relation", "not finite"),
        ("def part(x, width): return x.sum()", "surrogate", "expected a finite derivative of the shape of x"),
        ("def part(x, width): return 1 / (x - x)", "surrogate", "finite"),
        ("def part(student, teacher, labels): return student.logits", "loss", "expected a scalar tensor"),
        ("def part(student, teacher): return 0", "loss", "expected a function of 3 arguments"),
        ("def part(student, teacher, labels): return (student.logits * 0).detach().mean()", "loss", "grad"),
        ("def part(s, t, l): ...\npart.needs = ('logit',)", "loss", r"needs: .* \(did you mean 'logits'\?\)"),
        ("def part(network, images, data): return float('nan')", "metric", "expected a finite number, found nan"),
        ("class part(nn.Module):\n    def forward(self, x): return x", "neuron", "spiking = True"),
        ("def part(params, lr): return 3", "optimizer", "expected a torch optimiser, found int"),
        ("def part(): return 1, 2, 3", "dataset", "pixels: expected uint8"),
        ("def part(): return torch.zeros(9, 8, 8, 3).byte(), torch.zeros(9), 'ab'", "dataset", "1 or 3 channels"),
        ("def part(): return torch.zeros(9, 3, 8, 8).byte(), torch.full((9,), 2), 'ab'", "dataset", "labels"),
        ("class part:\n    pass", "dataset", r"expected a method read\(part\)"),
    ],
)
def test_wrong_parts_are_one_line(source: str, kind: str, words: str, tmp_path: Path) -> None:
    path = f"{package(tmp_path, source)}:part"
    with pytest.raises(AssertionError, match=words) as error:
        assert_part(path, kind)
    assert "\n" not in str(error.value)


def test_a_metric_that_changes_the_networks_mode_changes_no_other(
    tmp_path: Path, configured: Configured, bars: TrainingData
) -> None:
    module = package(
        tmp_path,
        """
def first(network, images, data):
    network.train()
    return 0.0

def second(network, images, data):
    return float(network.training)
""",
    )
    config = configured(train__metrics=[f"{module}:first", f"{module}:second"])
    assert [report.metrics["own/second"] for report in train(config, bars)] == [0.0] * config.train.epochs
