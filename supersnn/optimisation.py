"""The optimiser of a training, and its learning rate schedule."""

import inspect
import math
from typing import Any

import torch
from torch import nn

from supersnn import parts
from supersnn.config import OptimizerConfig
from supersnn.errors import UserError
from supersnn.parts import is_import_path


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

    One of your own is called as torch's are, with `lr` if it has that parameter, and with its own arguments; the groups
    have a `weight_decay` of their own, and the schedule sets their `lr` before each step.

    Raises:
        UserError: one of your own cannot be imported or constructed.
    """
    lr = config.lr if rate is None else rate
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if is_import_path(config.name):
        return _own(config, groups)
    if config.name == "adamw":
        return _AdamW(groups, lr=lr, fused=True, capturable=rate is not None and rate.device.type == "cuda")
    nesterov = config.momentum > 0
    sgd = _SGD(groups, lr=lr, momentum=config.momentum, nesterov=nesterov, fused=True)
    if nesterov:
        # If mixed precision skips the first step because of an overflow, torch leaves its own buffers uninitialised.
        for parameter in parameters:
            sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return sgd


def _own(config: OptimizerConfig, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    path = config.name
    made = parts.call(
        path, parts.function(path), {"params": groups, "lr": config.lr}, config.arguments, "optimizer.arguments"
    )
    if not isinstance(made, torch.optim.Optimizer):
        raise UserError(f"{path!r}: expected a torch optimiser, found {type(made).__name__}")
    return made


def state_of(optimizer: torch.optim.Optimizer, parameter: nn.Parameter) -> dict[str, torch.Tensor]:
    """Return the tensors of an optimiser's state of a parameter."""
    return {name: value for name, value in optimizer.state[parameter].items() if isinstance(value, torch.Tensor)}


def numbers_of(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter]) -> dict[str, Any]:
    """Return the numbers of an optimiser's state: of each parameter, and of its groups. torch's own have none."""
    if isinstance(optimizer, _SGD | _AdamW):
        return {}
    states = ({k: v for k, v in optimizer.state[parameter].items() if _is_number(v)} for parameter in parameters)
    groups = [{k: v for k, v in group.items() if _is_number(v)} for group in optimizer.param_groups]
    return {"parameters": list(states), "groups": groups}


def restore_numbers(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], numbers: dict[str, Any]) -> None:
    """Set what `numbers_of` has returned."""
    for parameter, values in zip(parameters, numbers.get("parameters", ()), strict=False):
        optimizer.state[parameter].update(values)
    for group, values in zip(optimizer.param_groups, numbers.get("groups", ()), strict=False):
        group.update(values)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)


def restored(name: str, value: torch.Tensor, parameter: nn.Parameter) -> torch.Tensor:
    """Return a stored part of the state of a parameter, on its device and in its layout."""
    if name == "step" or value.shape != parameter.shape:
        return value.to(parameter.device, copy=True)
    return torch.empty_like(parameter).copy_(value).detach()


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
