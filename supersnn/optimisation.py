"""The optimiser of a training, and its learning rate schedule."""

import inspect
import math

import torch
from torch import nn

from supersnn.config import OptimizerConfig


def learning_rate(config: OptimizerConfig, step: int, steps: int) -> float:
    """Return the learning rate of a step, counted from 0.

    It rises linearly over the first `warmup` share of all steps; then it is constant, or falls along half a cosine
    (Loshchilov & Hutter 2017, without restarts) that reaches 0 after the last step.
    """
    warmup = config.warmup * steps
    if step + 1 <= warmup:
        return config.lr * (step + 1) / warmup
    if config.schedule == "constant":
        return config.lr
    return config.lr * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2


def rate_tensor(device: torch.device) -> torch.Tensor:
    """Return a learning rate that `optimiser` can read on a device: in the precision that its kernels take."""
    return torch.zeros((), dtype=torch.float32 if device.type == "cuda" else torch.float64, device=device)


def optimiser(
    config: OptimizerConfig, parameters: list[nn.Parameter], rate: torch.Tensor | None = None
) -> torch.optim.Optimizer:
    """Return the optimiser of the parameters, in two groups: with and without weight decay.

    With `rate`, a 0-dimensional tensor on the parameters' device, it reads the learning rate from there, so that a step
    can be captured in a CUDA graph.
    """
    lr = config.lr if rate is None else rate
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if config.name == "adamw":
        return _AdamW(groups, lr=lr, fused=True, capturable=rate is not None and rate.device.type == "cuda")
    nesterov = config.momentum > 0
    sgd = _SGD(groups, lr=lr, momentum=config.momentum, nesterov=nesterov, fused=True)
    if nesterov:
        # If mixed precision skips the first step because of an overflow, torch leaves its own buffers uninitialised.
        for parameter in parameters:
            sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return sgd


# torch wraps some methods of its optimisers for its compiler, and the first call of one imports the compiler: more than
# a second in every process. Nothing is compiled here, so these classes call the unwrapped methods.


class _SGD(torch.optim.SGD):
    add_param_group = inspect.unwrap(torch.optim.SGD.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.SGD.zero_grad)
    step = torch.no_grad()(inspect.unwrap(torch.optim.SGD.step))


class _AdamW(torch.optim.AdamW):
    add_param_group = inspect.unwrap(torch.optim.AdamW.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.AdamW.zero_grad)
    step = torch.no_grad()(inspect.unwrap(torch.optim.AdamW.step))
    _warned_capturable_if_run_uncaptured = True  # the first steps of a training are not captured yet
