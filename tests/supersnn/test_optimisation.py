import math
import subprocess
import sys
from collections.abc import Callable
from functools import partial

import pytest
import torch

from supersnn.config import OptimizerConfig
from supersnn.optimisation import learning_rate, optimiser


def test_the_rate_rises_and_falls_to_zero() -> None:
    config = OptimizerConfig(lr=0.2, warmup=0.1)
    rates = [learning_rate(config, step, 100) for step in range(101)]
    assert rates[:10] == pytest.approx([0.02 * (step + 1) for step in range(10)])
    for step in (10, 37, 99):
        assert rates[step] == pytest.approx(0.1 * (1 + math.cos(math.pi * (step - 10) / 90)))
    assert rates[100] == pytest.approx(0)
    assert rates[10] == 0.2


def test_a_constant_rate_stays() -> None:
    config = OptimizerConfig(lr=0.2, warmup=0.0, schedule="constant")
    assert {learning_rate(config, step, 100) for step in range(100)} == {0.2}


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_only_the_weights_of_convolutions_and_linear_layers_decay(name: str) -> None:
    matrix, bias, decay = (torch.nn.Parameter(torch.ones(shape)) for shape in ((2, 2), (2,), ()))
    made = optimiser(OptimizerConfig(name=name, lr=0.1, weight_decay=0.5), [matrix, bias, decay])
    for parameter in (matrix, bias, decay):
        parameter.grad = torch.zeros_like(parameter)
    made.step()
    assert torch.all(matrix < 1)
    assert torch.all(bias == 1)
    assert decay == 1


def test_a_sgd_step_is_nesterovs() -> None:
    parameter = torch.nn.Parameter(torch.ones(2, 2))
    made = optimiser(OptimizerConfig(lr=0.1, momentum=0.9, weight_decay=0.0), [parameter])
    value, velocity = 1.0, 0.0
    for gradient in (1.0, 2.0):
        parameter.grad = torch.full((2, 2), gradient)
        made.step()
        velocity = 0.9 * velocity + gradient
        value -= 0.1 * (gradient + 0.9 * velocity)
        torch.testing.assert_close(parameter.detach(), torch.full((2, 2), value))


@pytest.mark.parametrize(
    ("config", "theirs"),
    [
        (OptimizerConfig(name="adamw", lr=0.1), partial(torch.optim.AdamW, lr=0.1)),
        (OptimizerConfig(lr=0.1), partial(torch.optim.SGD, lr=0.1, momentum=0.9, nesterov=True)),
    ],
)
def test_the_bits_are_those_of_torchs_own(
    config: OptimizerConfig, theirs: Callable[..., torch.optim.Optimizer]
) -> None:
    starts = [torch.randn(5, 7), torch.randn(5)]
    ours, others = ([torch.nn.Parameter(start.clone()) for start in starts] for _ in range(2))
    groups = [{"params": others[:1], "weight_decay": config.weight_decay}, {"params": others[1:], "weight_decay": 0.0}]
    for parameters, made in ((ours, optimiser(config, ours)), (others, theirs(groups, fused=True))):
        for step in range(3):
            made.zero_grad()
            torch.stack([(parameter**2).sum() * (step + 1) for parameter in parameters]).sum().backward()
            made.step()
    for mine, other, start in zip(ours, others, starts, strict=True):
        assert torch.equal(mine, other)
        assert not torch.equal(mine, start)


def test_a_first_step_that_overflowed_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mixed precision has the fused step skip itself; what it has not written must be zeros all the same."""
    monkeypatch.setattr(torch, "empty_like", partial(torch.full_like, fill_value=math.nan))
    config, parameters = OptimizerConfig(lr=0.1), [torch.nn.Parameter(torch.ones(3)) for _ in range(2)]
    skipped, fresh = (optimiser(config, [parameter]) for parameter in parameters)
    parameters[0].grad = torch.full((3,), math.inf)
    skipped.__dict__.update(grad_scale=None, found_inf=torch.ones(()))
    skipped.step()
    skipped.__dict__.update(found_inf=torch.zeros(()))
    for made, parameter in zip((skipped, fresh), parameters, strict=True):
        parameter.grad = torch.full((3,), 2.0)
        made.step()
    assert torch.equal(*parameters)
    assert torch.all(parameters[0] < 1)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_a_training_imports_nothing_that_is_slow_and_not_needed(name: str) -> None:
    """torch's compiler and scikit-learn would take each process of a sweep more than a second, each."""
    lines = f"""
import sys
from supersnn.config import TrainConfig
from supersnn.config_model import parse
from supersnn.data import training_data
from supersnn.training import train
plain = {{
    "dataset": {{"name": "digits", "images": 100}},
    "student": {{"architecture": "resnet8"}},
    "optimizer": {{"name": {name!r}, "clip": 1.0}},
    "train": {{"epochs": 1}},
}}
config = parse(TrainConfig, plain, "test")
(report,) = train(config, training_data(config.dataset))
print(report.ended, *({{"torch._dynamo", "sklearn"}} & set(sys.modules)))
"""
    ran = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["finished"]
