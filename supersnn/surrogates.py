"""Surrogate derivatives: what stands in the backward pass for the derivative of the spike's step function.

Each function takes x = u - θ (membrane potential above threshold, any shape) and a width w > 0, and returns the
derivative at x, of x's shape. Each is even, integrates to 1 over x, and tends to the step's own derivative as
w goes to 0. To add one: write its function, name its source, enter it in `SURROGATES` and in `NeuronConfig`.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor


def triangle(x: Tensor, width: float) -> Tensor:
    """Return (1/w) · max(0, 1 - |x|/w): Esser et al. 2016, "Convolutional networks for fast, energy-efficient
    neuromorphic computing"; Bellec et al. 2018, "Long short-term memory and learning-to-learn".
    """
    return torch.rsub(x.abs(), 1 / width, alpha=1 / width**2).clamp_min_(0)


def rectangle(x: Tensor, width: float) -> Tensor:
    """Return (1/2w) · [|x| < w]: Wu et al. 2018, "Spatio-temporal backpropagation", h1 with a1 = 2w."""
    return x.abs().lt_(width).mul_(1 / (2 * width))


def atan(x: Tensor, width: float) -> Tensor:
    """Return (1/2w) / (1 + (π x / 2w)²): Fang et al. 2021, "Incorporating learnable membrane time constant",
    α = 1/w.
    """
    return x.square().mul_((math.pi / (2 * width)) ** 2).add_(1).reciprocal_().mul_(1 / (2 * width))


def sigmoid(x: Tensor, width: float) -> Tensor:
    """Return (1/w) · σ(x/w) · (1 - σ(x/w)): Wu et al. 2018, "Spatio-temporal backpropagation", h3 with a3 = w."""
    s = torch.mul(x, 1 / width).sigmoid_()
    return torch.addcmul(s, s, s, value=-1).mul_(1 / width)


SURROGATES: dict[str, Callable[[Tensor, float], Tensor]] = {
    "triangle": triangle,
    "rectangle": rectangle,
    "atan": atan,
    "sigmoid": sigmoid,
}
