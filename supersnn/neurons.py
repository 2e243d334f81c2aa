"""Leaky integrate-and-fire neurons over the whole time loop: one autograd function, and modules around it."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from supersnn.surrogates import SURROGATES

_IN_CACHE = 2**17  # neurons that a CPU core works on at a time: what it needs of them then fits its cache


def lif(
    current: Tensor,
    threshold: float = 1.0,
    decay: float | Tensor = 0.5,
    reset: str = "hard",
    surrogate: str = "triangle",
    width: float = 1.0,
    detach_reset: bool = True,
    *,
    steps: int | None = None,
    overwrite: bool = False,
) -> Tensor:
    """Return the spikes [T, ...], 0 or 1, that input currents [T, ...] cause in neurons at rest.

    For each step t, with v[-1] = 0:

        u[t] = decay · v[t-1] + current[t]        membrane potential
        s[t] = 1 if u[t] >= threshold else 0      spike
        v[t] = u[t] · (1 - s[t])                  hard reset      (soft: v[t] = u[t] - threshold · s[t])

    Backward, ds/du is the surrogate's derivative at u - threshold; with `detach_reset` the s in v[t] counts as
    a constant. `decay` may be a 0-dimensional tensor with a gradient of its own. Each step of the result has the
    memory layout of `current`'s. The bits are the same in every run.

    With `steps`, `current` is [...] without time, the same at each of so many steps. With `overwrite` the
    potentials take the place of `current` in memory, and in the backward pass, which then can run only once, the
    gradient takes theirs: for a current that nothing else reads, as a norm's result is.
    """
    spikes: Tensor = _Lif.apply(
        current, decay, threshold, reset == "hard", SURROGATES[surrogate], width, detach_reset, steps, overwrite
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
        steps: int | None,
        overwrite: bool,
    ) -> Tensor:
        constant = steps is not None
        if steps is not None:
            current = current.expand(steps, *current.shape)
        spikes = _empty_as(current)
        in_place = overwrite and not constant
        potentials = current if in_place else _empty_as(current)
        for i, u, s, (v,) in _parts(1, spikes, current, potentials, spikes):
            for t in range(len(u)):
                if t == 0:
                    if not in_place:
                        u[0].copy_(i[0])
                elif isinstance(decay, Tensor):
                    torch.addcmul(i[t], _after_reset(u[t - 1], s[t - 1], threshold, hard, v), decay, out=u[t])
                else:
                    torch.add(i[t], _after_reset(u[t - 1], s[t - 1], threshold, hard, v), alpha=decay, out=u[t])
                torch.ge(u[t], threshold, out=s[t])
        ctx.save_for_backward(potentials, decay if isinstance(decay, Tensor) else None)
        ctx.decay = 1.0 if isinstance(decay, Tensor) else decay
        ctx.constants = (threshold, hard, derivative, width, detach_reset, constant, overwrite)
        return spikes

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_spikes: Tensor) -> tuple[Tensor | None, ...]:
        threshold, hard, derivative, width, detach_reset, constant, overwrite = ctx.constants
        potentials, decay = ctx.saved_tensors
        of_current = potentials if overwrite else torch.empty_like(potentials)
        of_decay = None if decay is None else torch.zeros_like(decay)
        for u, gs, gu, (x, through) in _parts(2, potentials, potentials, of_spikes, of_current):
            for t in reversed(range(len(u))):
                slope = derivative(torch.sub(u[t], threshold, out=x), width)
                if t == len(u) - 1:
                    torch.mul(gs[t], slope, out=gu[t])
                    continue
                _through_reset(u[t], slope, threshold, hard, detach_reset, through)
                if of_decay is not None:
                    s = torch.ge(u[t], threshold, out=torch.empty_like(u[t]))
                    of_decay += torch.dot(gu[t + 1], _after_reset(u[t], s, threshold, hard, s))
                    through *= decay
                torch.mul(gs[t], slope, out=gu[t])
                gu[t].addcmul_(gu[t + 1], through, value=ctx.decay)
            if constant:
                for later in gu[1:]:
                    gu[0] += later
        return (of_current[0] if constant else of_current), of_decay, *[None] * 7


def _after_reset(u: Tensor, s: Tensor, threshold: float, hard: bool, out: Tensor) -> Tensor:
    """Return v, of potentials u and their spikes s."""
    return torch.addcmul(u, u, s, value=-1, out=out) if hard else torch.sub(u, s, alpha=threshold, out=out)


def _through_reset(u: Tensor, slope: Tensor, threshold: float, hard: bool, detach: bool, out: Tensor) -> None:
    """Compute dv/du: with a detached reset only the direct way, not the one through the spike, ds/du = slope."""
    if hard:
        torch.lt(u, threshold, out=out)
    else:
        out.fill_(1)
    if not detach:
        out -= slope * (u if hard else threshold)


def _empty_as(x: Tensor) -> Tensor:
    """Return an empty tensor of the shape of x [T, ...], each step of it laid out in memory as x's first."""
    step = torch.empty_like(x[0])
    return torch.empty_strided(x.shape, (step.numel(), *step.stride()), dtype=x.dtype, device=x.device)


def _parts(scratch: int, pattern: Tensor, *tensors: Tensor) -> Iterator[tuple[Sequence[Tensor], ...]]:
    """Yield for some neurons at a time the T rows of each of the tensors [T, ...], in `pattern`'s memory order.

    After them come so many rows of scratch space. On a CPU the neurons are so few that the work on them stays in
    its cache: memory is what the loop over time waits for.
    """
    order = sorted(range(1, pattern.dim()), key=pattern.stride, reverse=True)
    neurons = pattern[0].numel()
    n = min(neurons, torch.get_num_threads() * _IN_CACHE) if pattern.device.type == "cpu" else neurons
    space = torch.empty(scratch, n, dtype=pattern.dtype, device=pattern.device)
    rows = [[row.split(n) for row in x.permute(0, *order).flatten(1).unbind()] for x in tensors]
    for part, first in enumerate(rows[0][0]):
        yield *([row[part] for row in x] for x in rows), space[:, : len(first)].unbind()


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
            current if constant else current.unflatten(0, (self.steps, -1)),
            self.threshold,
            self.decay,
            self.reset,
            self.surrogate,
            self.width,
            self.detach_reset,
            steps=self.steps if constant else None,
            overwrite=True,
        )
        return spikes.flatten(0, 1)

    def extra_repr(self) -> str:
        """Return the neuron's constants, for `print(network)`."""
        names = ("steps", "threshold", "reset", "surrogate", "width", "detach_reset")
        constants = ", ".join(f"{name}={getattr(self, name)}" for name in names)
        return f"{constants}, decay={torch.as_tensor(self.decay).detach():.4g}"


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
