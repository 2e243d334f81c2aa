"""The neurons of `supersnn.neurons.lif` as plain torch operations, for `torch.func` and `torch.compile`.

A step of time is a few operations, so that transforms and compilers see through it; the loop's own kernels, which are
faster, run everywhere else. Spikes, and gradients up to rounding, are the same.
"""

from typing import Any

import torch
from torch import Tensor

from supersnn.kernels.dynamics import Dynamics
from supersnn.surrogates import surrogate


def is_transformed() -> bool:
    """Return whether a transform of `torch.func` is active, or `torch.compile` traces this."""
    return torch.compiler.is_compiling() or bool(torch._C._are_functorch_transforms_active())


def composed(current: Tensor, decay: float | Tensor, dynamics: Dynamics, steps: int | None) -> Tensor:
    """Return the spikes [T, ...]; see `neurons.lif`."""
    currents = [current] * steps if steps is not None else list(current.unbind())
    v, spikes = torch.zeros_like(currents[0]), []
    for i in currents:
        u = decay * v + i
        s: Tensor = _Spike.apply(u - dynamics.threshold, dynamics.surrogate, dynamics.width)
        reset = s.detach() if dynamics.detach_reset else s
        v = u * (1 - reset) if dynamics.hard else u - dynamics.threshold * reset
        spikes.append(s)
    return torch.stack(spikes)


class _Spike(torch.autograd.Function):
    """The step function, with the surrogate's derivative."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, _name: str, _width: float) -> Tensor:
        """Return 1 where x = u - θ is not negative, else 0."""
        return (x >= 0).to(x.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep x."""
        del output
        x, ctx.name, ctx.width = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx: Any, of_spikes: Tensor) -> tuple[Tensor, None, None]:
        """Return the gradient of x."""
        (x,) = ctx.saved_tensors
        return of_spikes * _slope(x, ctx.name, ctx.width), None, None


def _slope(x: Tensor, name: str, width: float) -> Tensor:
    """Return the surrogate's derivative without writing to x: transforms know no `out`."""
    if name == "triangle":
        return torch.sub(1 / width, x.abs(), alpha=1 / width**2).clamp_min(0)
    return surrogate(name)(x.clone(), width)
