"""How the weights move: the optimiser over a network's parameters, and the learning rate of each step."""

import inspect
import math

import torch
from torch import nn

from supersnn.config import OptimizerConfig


def learning_rate(config: OptimizerConfig, step: int, steps: int) -> float:
    """Return the rate of a step, counted from 0.

    It rises linearly over the first `warmup` share of all steps; then it stays, or falls along half a cosine
    (Loshchilov & Hutter 2017, without restarts) that reaches 0 behind the last step.
    """
    warmup = config.warmup * steps
    if step + 1 <= warmup:
        return config.lr * (step + 1) / warmup
    if config.schedule == "constant":
        return config.lr
    return config.lr * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2


def optimiser(config: OptimizerConfig, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """Return the optimiser over the parameters, in two groups: with weight decay and without."""
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if config.name == "adamw":
        return _AdamW(groups, lr=config.lr, fused=True)
    nesterov = config.momentum > 0
    made = _SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=nesterov, fused=True)
    if nesterov:
        # A first step that mixed precision skips, because it overflowed, would leave torch's own buffers uninitialised.
        for parameter in parameters:
            made.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return made


# Some methods of torch's optimisers are wrapped for torch's compiler, which they load when they are first called: more
# than a second of every process, and nothing here is compiled by it. These call what is inside the wrapping.


class _SGD(torch.optim.SGD):
    add_param_group = inspect.unwrap(torch.optim.SGD.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.SGD.zero_grad)
    step = torch.no_grad()(inspect.unwrap(torch.optim.SGD.step))


class _AdamW(torch.optim.AdamW):
    add_param_group = inspect.unwrap(torch.optim.AdamW.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.AdamW.zero_grad)
    step = torch.no_grad()(inspect.unwrap(torch.optim.AdamW.step))
