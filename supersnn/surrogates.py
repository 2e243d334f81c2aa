"""Surrogate derivatives: replacements for the derivative of the spike's step function in the backward pass.

Each function takes x = u - θ (membrane potential above threshold, any shape) and a width w > 0, and returns the
derivative at x, of x's shape. It works in place, in x's memory, because a neuron's backward pass is limited by memory
bandwidth. Each derivative is even, integrates to 1 over x, and tends to the step's own as w goes to 0. To add one:
write its function, cite its source, and enter it in `SURROGATES` and in `config.NeuronConfig`. It runs in
`kernels.eager`, unless the compiled kernels get a branch for it. One of your own may return a new tensor.
"""

import json
import math
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from supersnn import parts
from supersnn.errors import UserError


def triangle(x: Tensor, width: float) -> Tensor:
    """Return (1/w) · max(0, 1 - |x|/w).

    Esser et al. 2016, "Convolutional networks for fast, energy-efficient neuromorphic computing"; Bellec et al.
    2018, "Long short-term memory and learning-to-learn in networks of spiking neurons".
    """
    return torch.sub(1 / width, x.abs_(), alpha=1 / width**2, out=x).clamp_min_(0)


def rectangle(x: Tensor, width: float) -> Tensor:
    """Return (1/2w) · [|x| < w].

    Wu et al. 2018, "Spatio-temporal backpropagation for training high-performance spiking neural networks": h1
    with a1 = 2w.
    """
    return x.abs_().lt_(width).mul_(1 / (2 * width))


def atan(x: Tensor, width: float) -> Tensor:
    """Return (1/2w) / (1 + (π x / 2w)²).

    Fang et al. 2021, "Incorporating learnable membrane time constant to enhance learning of spiking neural
    networks": α = 1/w.
    """
    return x.mul_(math.pi / (2 * width)).square_().add_(1).reciprocal_().mul_(1 / (2 * width))


def sigmoid(x: Tensor, width: float) -> Tensor:
    """Return (1/w) · σ(x/w) · (1 - σ(x/w)).

    Wu et al. 2018, "Spatio-temporal backpropagation for training high-performance spiking neural networks": h3
    with a3 = w.
    """
    s = x.mul_(1 / width).sigmoid_()
    return s.addcmul_(s, s, value=-1).mul_(1 / width)


SURROGATES: dict[str, Callable[[Tensor, float], Tensor]] = {
    "triangle": triangle,
    "rectangle": rectangle,
    "atan": atan,
    "sigmoid": sigmoid,
}


_BEFORE_ARGUMENTS = "?"


def with_arguments(name: str, arguments: Mapping[str, Any]) -> str:
    """Return the name by which `surrogate` knows a surrogate with arguments of its own, a text as neurons carry it."""
    return f"{name}{_BEFORE_ARGUMENTS}{json.dumps(arguments, sort_keys=True)}" if arguments else name


@cache
def surrogate(name: str) -> Callable[[Tensor, float], Tensor]:
    """Return a surrogate derivative: one of `SURROGATES`, or the function that an import path names.

    Args:
        name: also one of `with_arguments`.

    Raises:
        UserError: it cannot be imported, lacks an argument, or does not return a finite derivative of x's shape.
    """
    if name in SURROGATES:
        return SURROGATES[name]
    path, _, text = name.partition(_BEFORE_ARGUMENTS)
    own = parts.function(path)
    if text:
        arguments = json.loads(text)
        parts.check_arguments(path, own, (), arguments, "neuron.surrogate_arguments", positional=2)
        own = partial(own, **arguments)
    name = path
    x = torch.linspace(-2, 2, 8).view(2, 4)
    with parts.raised_by(name):
        slope = own(x.clone(), 1.0)
    if not isinstance(slope, Tensor) or slope.shape != x.shape or not bool(slope.isfinite().all()):
        found = list(slope.shape) if isinstance(slope, Tensor) else type(slope).__name__
        raise UserError(f"{name!r}: expected a finite derivative of the shape of x, {list(x.shape)}, found {found}")
    return own
