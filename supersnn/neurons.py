"""Leaky integrate-and-fire neurons over the whole time loop: one autograd function, and modules around it."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from supersnn.surrogates import SURROGATES

_IN_CACHE = 2**17  # potentials that a CPU core works on at a time: a few tensors of this size fit its cache


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
    a constant. `decay` may be a 0-dimensional tensor with a gradient of its own. Each step of the result has the
    memory layout of `current`'s; a constant current may be expanded along T. The bits are the same in every run.

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
        spikes = _empty_as(current)
        potentials = current if overwrite else _empty_as(current)
        learned = isinstance(decay, Tensor)
        for i, u, s in _parts(spikes, current, potentials, spikes):
            rows = list(zip(i.unbind(), u.unbind(), s.unbind(), strict=True))
            for t, (i_t, u_t, s_t) in enumerate(rows):
                if t > 0:
                    v = _after_reset(*rows[t - 1][1:], threshold, hard)
                    if learned:
                        torch.addcmul(i_t, v, decay, out=u_t)
                    else:
                        torch.add(i_t, v, alpha=decay, out=u_t)
                elif not overwrite:
                    u_t.copy_(i_t)
                torch.ge(u_t, threshold, out=s_t)
        ctx.save_for_backward(potentials, *([decay] if learned else []))
        ctx.constants = (None if learned else decay, threshold, hard, derivative, width, detach_reset, overwrite)
        return spikes

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_spikes: Tensor) -> tuple[Tensor | None, ...]:
        decay, threshold, hard, derivative, width, detach_reset, overwrite = ctx.constants
        potentials, *learned = ctx.saved_tensors
        of_current = potentials if overwrite else torch.empty_like(potentials)
        of_decay = torch.zeros_like(learned[0]) if learned else None
        scratch = None
        for u, gs, gu in _parts(potentials, potentials, of_spikes, of_current):
            if scratch is None or scratch.shape != u.shape:
                scratch = torch.empty_like(u)
                carry = torch.empty_like(u[1:])
            slope = derivative(torch.sub(u, threshold, out=scratch), width)
            before = u[:-1]
            if hard:
                torch.lt(before, threshold, out=carry)
            else:
                carry.fill_(1)
            if learned:
                v = before * carry if hard else before - threshold * before.ge(threshold)
            if not detach_reset:
                carry -= slope[:-1] * (before if hard else threshold)
            if learned:
                carry *= learned[0]
            torch.mul(gs, slope, out=gu)
            rows, c = gu.unbind(), carry.unbind()
            for t in reversed(range(len(c))):
                rows[t].addcmul_(rows[t + 1], c[t], value=1 if learned else decay)
            if learned:
                of_decay += torch.sum(gu[1:] * v)
        return of_current, of_decay, None, None, None, None, None, None


def _after_reset(u: Tensor, s: Tensor, threshold: float, hard: bool) -> Tensor:
    return torch.addcmul(u, u, s, value=-1) if hard else torch.sub(u, s, alpha=threshold)


def _empty_as(x: Tensor) -> Tensor:
    """Return an empty tensor of the shape of x [T, ...], each step of it laid out in memory as x's first."""
    step = torch.empty_like(x[0])
    return torch.empty_strided(x.shape, (step.numel(), *step.stride()), dtype=x.dtype, device=x.device)


def _parts(pattern: Tensor, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield tensors [T, ...] as views [T, n], in the memory order of `pattern`, of so many neurons at a time.

    On a CPU n is such that the work stays in its cache, because memory is what the loop over time waits for.
    """
    order = sorted(range(1, pattern.dim()), key=lambda d: -pattern.stride(d))
    flat = [x.permute(0, *order).flatten(1) for x in tensors]
    steps, neurons = flat[0].shape
    n = max(1, torch.get_num_threads() * _IN_CACHE // steps) if pattern.device.type == "cpu" else neurons
    return zip(*(x.split(n, dim=1) for x in flat), strict=True)


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

    def forward(self, current: Tensor, constant: bool = False) -> Tensor:
        """Return the spikes [T·B, ...] for currents [T·B, ...], or [B, ...] that are `constant` over time."""
        spikes = lif(
            current.expand(self.steps, *current.shape) if constant else current.unflatten(0, (self.steps, -1)),
            self.threshold,
            self.decay,
            self.reset,
            self.surrogate,
            self.width,
            self.detach_reset,
            overwrite=not constant,
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
