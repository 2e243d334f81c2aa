"""Leaky integrate-and-fire neurons over the whole time loop: one autograd function, and modules around it."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from supersnn.surrogates import SURROGATES

_IN_CACHE = 2**16  # neurons that a CPU core works on at a time: their few tensors then fit its cache


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
            for t in range(len(u)):
                if t > 0:
                    v = _after_reset(u[t - 1], s[t - 1], threshold, hard)
                    if learned:
                        torch.addcmul(i[t], v, decay, out=u[t])
                    else:
                        torch.add(i[t], v, alpha=decay, out=u[t])
                elif not overwrite:
                    u[t].copy_(i[t])
                torch.ge(u[t], threshold, out=s[t])
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
        for u, gs, gu in _parts(potentials, potentials, of_spikes, of_current):
            last = len(u) - 1
            for t in reversed(range(len(u))):
                slope = derivative(u[t] - threshold, width)
                if t < last:
                    through = _through_reset(u[t], slope, threshold, hard, detach_reset)
                    if learned:
                        v = _after_reset(u[t], u[t].ge(threshold).to(u[t].dtype), threshold, hard)
                        of_decay += torch.dot(gu[t + 1], v)
                        through *= learned[0]
                torch.mul(gs[t], slope, out=gu[t])
                if t < last:
                    gu[t].addcmul_(gu[t + 1], through, value=1 if learned else decay)
        return of_current, of_decay, None, None, None, None, None, None


def _after_reset(u: Tensor, s: Tensor, threshold: float, hard: bool) -> Tensor:
    """Return v, of potentials u and their spikes s."""
    return torch.addcmul(u, u, s, value=-1) if hard else torch.sub(u, s, alpha=threshold)


def _through_reset(u: Tensor, slope: Tensor, threshold: float, hard: bool, detach: bool) -> Tensor:
    """Return dv/du: with a detached reset only the direct way, not the one through the spike, ds/du = slope."""
    direct = torch.lt(u, threshold, out=torch.empty_like(u)) if hard else torch.ones_like(u)
    return direct if detach else direct.sub_(slope * (u if hard else threshold))


def _empty_as(x: Tensor) -> Tensor:
    """Return an empty tensor of the shape of x [T, ...], each step of it laid out in memory as x's first."""
    step = torch.empty_like(x[0])
    return torch.empty_strided(x.shape, (step.numel(), *step.stride()), dtype=x.dtype, device=x.device)


def _parts(pattern: Tensor, *tensors: Tensor) -> Iterator[tuple[list[Tensor], ...]]:
    """Yield for some neurons at a time the T rows of each of the tensors [T, ...], in `pattern`'s memory order.

    On a CPU they are so few that the work stays in its cache: memory is what the loop over time waits for.
    """
    order = sorted(range(1, pattern.dim()), key=lambda d: -pattern.stride(d))
    n = torch.get_num_threads() * _IN_CACHE if pattern.device.type == "cpu" else pattern.numel()
    rows = [[row.split(n) for row in x.permute(0, *order).flatten(1).unbind()] for x in tensors]
    for part in range(len(rows[0][0])):
        yield tuple([row[part] for row in x] for x in rows)


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
