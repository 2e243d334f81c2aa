"""The neurons' loop in torch operations: for every device, dtype and surrogate."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from supersnn.kernels.dynamics import Dynamics
from supersnn.surrogates import SURROGATES

_IN_CACHE = 2**17  # neurons that a CPU core processes at a time, so that their values fit its cache


def forward(
    current: Tensor, potentials: Tensor, spikes: Tensor, dynamics: Dynamics, count: Tensor | None = None
) -> None:
    """Run the loop; see `Kernel`."""
    decay, threshold, hard = dynamics.decay, dynamics.threshold, dynamics.hard
    in_place = potentials.data_ptr() == current.data_ptr()
    for i, u, s, (v,) in _parts(1, current.expand_as(spikes), potentials, spikes):
        for t in range(len(u)):
            if t == 0:
                if not in_place:
                    u[0].copy_(i[0])
            elif isinstance(decay, Tensor):
                torch.addcmul(i[t], _after_reset(u[t - 1], s[t - 1], threshold, hard, v), decay, out=u[t])
            else:
                torch.add(i[t], _after_reset(u[t - 1], s[t - 1], threshold, hard, v), alpha=decay, out=u[t])
            torch.ge(u[t], threshold, out=s[t])
    if count is not None:
        count += spikes.sum(dtype=torch.promote_types(spikes.dtype, torch.float32))


def backward(
    potentials: Tensor, of_spikes: Tensor, of_current: Tensor, dynamics: Dynamics, constant: bool
) -> Tensor | None:
    """Run the loop backward; see `Kernel`."""
    derivative, threshold, hard = SURROGATES[dynamics.surrogate], dynamics.threshold, dynamics.hard
    learned = dynamics.decay if isinstance(dynamics.decay, Tensor) else None
    fixed = 1.0 if isinstance(dynamics.decay, Tensor) else dynamics.decay
    of_decay = None if learned is None else torch.zeros_like(learned)
    for u, gs, gu, (x, through) in _parts(2, potentials, of_spikes, of_current):
        for t in reversed(range(len(u))):
            slope = derivative(torch.sub(u[t], threshold, out=x), dynamics.width)
            if t == len(u) - 1:
                torch.mul(gs[t], slope, out=gu[t])
                continue
            _through_reset(u[t], slope, threshold, hard, dynamics.detach_reset, through)
            if learned is not None and of_decay is not None:
                s = torch.ge(u[t], threshold, out=torch.empty_like(u[t]))
                of_decay += _dot(gu[t + 1], _after_reset(u[t], s, threshold, hard, s))
                through *= learned
            torch.mul(gs[t], slope, out=gu[t])
            gu[t].addcmul_(gu[t + 1], through, value=fixed)
        if constant:
            for later in gu[1:]:
                gu[0].add_(later)
    return of_decay


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Return the scalar product of two vectors, summed at least in single precision."""
    wide = torch.promote_types(a.dtype, torch.float32)
    return torch.dot(a.to(wide), b.to(wide))


def _after_reset(u: Tensor, s: Tensor, threshold: float, hard: bool, out: Tensor) -> Tensor:
    """Return v for potentials u and their spikes s."""
    return torch.addcmul(u, u, s, value=-1, out=out) if hard else torch.sub(u, s, alpha=threshold, out=out)


def _through_reset(u: Tensor, slope: Tensor, threshold: float, hard: bool, detach: bool, out: Tensor) -> None:
    """Compute dv/du; with a detached reset without the path through the spike, ds/du = slope."""
    if hard:
        torch.lt(u, threshold, out=out)
    else:
        out.fill_(1)
    if not detach:
        out -= slope * (u if hard else threshold)


def _parts(scratch: int, *tensors: Tensor) -> Iterator[tuple[Sequence[Tensor], ...]]:
    """Yield, for blocks of neurons, the T rows of each of the tensors [T, N], and `scratch` rows of scratch space.

    On a CPU a block fits the cache, because the loop is limited by memory bandwidth.
    """
    like = tensors[-1]
    neurons = like.shape[1]
    n = min(neurons, torch.get_num_threads() * _IN_CACHE) if like.device.type == "cpu" else neurons
    space = torch.empty(scratch, n, dtype=like.dtype, device=like.device)
    for start in range(0, neurons, max(1, n)):
        rows = [x[:, start : start + n].unbind() for x in tensors]
        yield *rows, space[:, : rows[0][0].numel()].unbind()
