"""Leaky integrate-and-fire neurons over the whole time loop: one autograd function, and modules around it."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from supersnn.surrogates import SURROGATES

_CACHED = 2**17
"""How many potentials a CPU core works on at a time: few enough to stay in its cache."""


def lif(
    current: Tensor,
    threshold: float = 1.0,
    decay: float | Tensor = 0.5,
    reset: str = "hard",
    surrogate: str = "triangle",
    width: float = 1.0,
    detach_reset: bool = True,
    overwrite: bool = False,
) -> Tensor:
    """Return the spikes [T, ...], 0 or 1, that input currents [T, ...] cause in neurons at rest.

    For each step t, with v[-1] = 0:

        u[t] = decay · v[t-1] + current[t]        membrane potential
        s[t] = 1 if u[t] >= threshold else 0      spike
        v[t] = u[t] · (1 - s[t])                  hard reset      (soft: v[t] = u[t] - threshold · s[t])

    Backward, ds/du is the surrogate's derivative at u - threshold; with `detach_reset` the s in v[t] counts as
    a constant. `decay` may be a 0-dimensional tensor with a gradient of its own. The result has the memory
    layout of `current`, and the same bits in every run.

    With `overwrite` the potentials take the place of `current` in memory, and in the backward pass, which then
    can run only once, the gradient takes theirs: for a current that nothing else reads, as a norm's result is.
    """
    spikes: Tensor = _Lif.apply(
        current, decay, threshold, reset == "hard", SURROGATES[surrogate], width, detach_reset, overwrite
    )
    return spikes


class _Lif(torch.autograd.Function):
    """The loop of `lif`, and the loop back; between them only the membrane potentials are kept."""

    @staticmethod
    def forward(
        ctx: Any,
        current: Tensor,
        decay: float | Tensor,
        threshold: float,
        hard: bool,
        derivative: Callable[[Tensor, float], Tensor],
        width: float,
        detach_reset: bool,
        overwrite: bool,
    ) -> Tensor:
        potentials = current if overwrite else current.clone()
        spikes = torch.empty_like(potentials)
        for u, s in _parts(potentials, spikes):
            for t in range(len(u)):
                if t > 0:
                    u[t] += decay * _after_reset(u[t - 1], s[t - 1], threshold, hard)
                torch.ge(u[t], threshold, out=s[t])
        ctx.save_for_backward(potentials, *([decay] if isinstance(decay, Tensor) else []))
        ctx.constants = (decay, threshold, hard, derivative, width, detach_reset, overwrite)
        return spikes

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_spikes: Tensor) -> tuple[Tensor | None, ...]:
        decay, threshold, hard, derivative, width, detach_reset, overwrite = ctx.constants
        potentials = ctx.saved_tensors[0]
        of_current = potentials if overwrite else torch.empty_like(potentials)
        of_decay = torch.zeros_like(decay) if isinstance(decay, Tensor) else None
        for u, gs, gu in _parts(potentials, of_spikes, of_current):
            slope = derivative(u - threshold, width)
            before = u[:-1]
            carry = before.lt(threshold).to(u.dtype) if hard else torch.ones_like(before)
            if of_decay is not None:
                v = before * carry if hard else before - threshold * before.ge(threshold)
            if not detach_reset:
                carry -= slope[:-1] * (before if hard else threshold)
            carry *= decay
            torch.mul(gs, slope, out=gu)
            for t in reversed(range(len(u) - 1)):
                gu[t].addcmul_(gu[t + 1], carry[t])
            if of_decay is not None:
                of_decay += torch.sum(gu[1:] * v)
        return of_current, of_decay, None, None, None, None, None, None


def _after_reset(u: Tensor, s: Tensor, threshold: float, hard: bool) -> Tensor:
    return torch.addcmul(u, u, s, value=-1) if hard else torch.sub(u, s, alpha=threshold)


def _parts(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield tensors [T, ...] of one shape as views [T, n] of some neurons each, in the first one's memory order.

    On a CPU n is such that the work stays in its cache, because memory is what the loop over time waits for.
    """
    first = tensors[0]
    order = sorted(range(1, first.dim()), key=lambda d: -first.stride(d))
    flat = [x.permute(0, *order).flatten(1) for x in tensors]
    neurons = flat[0].shape[1]
    size = max(1, torch.get_num_threads() * _CACHED // len(first)) if first.device.type == "cpu" else neurons
    for start in range(0, neurons, size):
        yield tuple(x[:, start : start + size] for x in flat)


class LIF(nn.Module):
    """A layer of leaky integrate-and-fire neurons on time-folded currents [T·B, ...]; see `lif`.

    It overwrites its input, as `nn.ReLU(inplace=True)` does.
    """

    def __init__(
        self,
        steps: int,
        threshold: float = 1.0,
        decay: float = 0.5,
        reset: str = "hard",
        surrogate: str = "triangle",
        width: float = 1.0,
        detach_reset: bool = True,
    ) -> None:
        super().__init__()
        self.steps, self.threshold, self.reset = steps, threshold, reset
        self.surrogate, self.width, self.detach_reset = surrogate, width, detach_reset
        self._set_decay(decay)

    def _set_decay(self, decay: float) -> None:
        self.decay: float | Tensor = decay

    def forward(self, current: Tensor) -> Tensor:
        """Return the spikes [T·B, ...] for currents [T·B, ...], in their memory layout."""
        spikes = lif(
            current.unflatten(0, (self.steps, -1)),
            self.threshold,
            self.decay,
            self.reset,
            self.surrogate,
            self.width,
            self.detach_reset,
            overwrite=True,
        )
        return spikes.flatten(0, 1)

    def extra_repr(self) -> str:
        """Return the neuron's constants, for `print(network)`."""
        names = ("steps", "threshold", "reset", "surrogate", "width", "detach_reset")
        return ", ".join(f"{name}={getattr(self, name)}" for name in names)


class PLIF(LIF):
    """LIF with one learnable decay a layer, σ(`decay_logit`), so that it stays within (0, 1).

    Fang et al. 2021, "Incorporating learnable membrane time constant to enhance learning of spiking neural
    networks".
    """

    def _set_decay(self, decay: float) -> None:
        self.decay_logit = nn.Parameter(torch.tensor(math.log(decay / (1 - decay))))

    @property
    def decay(self) -> Tensor:  # type: ignore[override]
        """The decay, a 0-dimensional tensor."""
        return self.decay_logit.sigmoid()
