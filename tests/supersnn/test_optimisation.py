import math

import pytest
import torch

from supersnn.config import OptimizerConfig
from supersnn.optimisation import learning_rate, optimiser


def test_the_rate_rises_and_falls_to_zero():
    config = OptimizerConfig(lr=0.2, warmup=0.1)
    rates = [learning_rate(config, step, 100) for step in range(101)]
    assert rates[:10] == pytest.approx([0.02 * (step + 1) for step in range(10)])
    for step in (10, 37, 99):
        assert rates[step] == pytest.approx(0.1 * (1 + math.cos(math.pi * (step - 10) / 90)))
    assert rates[100] == pytest.approx(0)
    assert rates[10] == 0.2


def test_a_constant_rate_stays():
    config = OptimizerConfig(lr=0.2, warmup=0.0, schedule="constant")
    assert {learning_rate(config, step, 100) for step in range(100)} == {0.2}


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_only_the_weights_of_convolutions_and_linear_layers_decay(name: str):
    matrix, bias, decay = (torch.nn.Parameter(torch.ones(shape)) for shape in ((2, 2), (2,), ()))
    made = optimiser(OptimizerConfig(name=name, lr=0.1, weight_decay=0.5), [matrix, bias, decay])
    for parameter in (matrix, bias, decay):
        parameter.grad = torch.zeros_like(parameter)
    made.step()
    assert torch.all(matrix < 1)
    assert torch.all(bias == 1)
    assert decay == 1


def test_a_sgd_step_is_nesterovs():
    parameter = torch.nn.Parameter(torch.ones(2, 2))
    made = optimiser(OptimizerConfig(lr=0.1, momentum=0.9, weight_decay=0.0), [parameter])
    value, velocity = 1.0, 0.0
    for gradient in (1.0, 2.0):
        parameter.grad = torch.full((2, 2), gradient)
        made.step()
        velocity = 0.9 * velocity + gradient
        value -= 0.1 * (gradient + 0.9 * velocity)
        torch.testing.assert_close(parameter.detach(), torch.full((2, 2), value))
