"""The contract of every kernel: `check(kernel)` compares it with a slow double loop over steps and neurons."""

import itertools
import math
from collections.abc import Iterator

import torch
from torch import Tensor

from supersnn.kernels.dynamics import Dynamics, Kernel

STEPS, NEURONS = 3, 2500  # more than one block, and not a multiple of the block

SLOPES = {
    "triangle": lambda x, w: max(0.0, 1 - abs(x) / w) / w,
    "rectangle": lambda x, w: (abs(x) < w) / (2 * w),
    "atan": lambda x, w: 1 / (2 * w) / (1 + (math.pi * x / (2 * w)) ** 2),
    "sigmoid": lambda x, w: (s := 1 / (1 + math.exp(-x / w))) * (1 - s) / w,
}


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) + 0.3


def every(surrogates: list[str]) -> Iterator[Dynamics]:
    for hard, surrogate, detach, learned in itertools.product((True, False), surrogates, (True, False), (True, False)):
        yield Dynamics(0.7, torch.tensor(0.6) if learned else 0.6, hard, surrogate, 0.8, detach)


def slow(current: Tensor, upstream: Tensor, dynamics: Dynamics, neurons: range) -> tuple[Tensor, Tensor, Tensor, float]:
    """Potentials, spikes and the current's gradient [T, some neurons], and these neurons' part of the decay's."""
    d, decay, of_decay = dynamics, float(dynamics.decay), 0.0
    u, s, gu = (torch.zeros(STEPS, len(neurons), dtype=torch.float64) for _ in range(3))
    for place, n in enumerate(neurons):
        v = [0.0] * (STEPS + 1)
        for t in range(STEPS):
            u[t, place] = decay * v[t] + float(current[min(t, len(current) - 1), n])
            s[t, place] = float(u[t, place] >= d.threshold)
            v[t + 1] = float(u[t, place] * (1 - s[t, place]) if d.hard else u[t, place] - d.threshold * s[t, place])
        of_v = 0.0
        for t in reversed(range(STEPS)):
            of_spike = float(upstream[t, n])
            if not d.detach_reset:
                of_spike -= of_v * (float(u[t, place]) if d.hard else d.threshold)
            direct = float(1 - s[t, place]) if d.hard else 1.0
            gu[t, place] = of_spike * SLOPES[d.surrogate](float(u[t, place]) - d.threshold, d.width) + of_v * direct
            of_v = decay * float(gu[t, place])
            of_decay += float(gu[t, place]) * v[t]
    return u, s, gu, of_decay


def check(kernel: Kernel, dynamics: Dynamics, constant: bool, in_place: bool, threads: int = 1) -> None:
    """Compare the loop and its gradient with the slow ones, the decay's gradient with that in double precision."""
    torch.set_num_threads(threads)
    current = drawn(1 if constant else STEPS, NEURONS, seed=0)
    upstream = drawn(STEPS, NEURONS, seed=1)
    sample = range(0, NEURONS, 7)
    u, s, gu, _ = slow(current, upstream, dynamics, sample)
    potentials = current if in_place and not constant else torch.full((STEPS, NEURONS), math.nan)
    spikes = torch.full((STEPS, NEURONS), math.nan)
    count = torch.tensor(5.0, dtype=torch.float64)
    kernel.forward(current, potentials, spikes, dynamics, count)
    assert float(count) == 5 + float(spikes.double().sum())
    torch.testing.assert_close(potentials[:, sample].double(), u, rtol=0, atol=1e-5)
    assert torch.equal(spikes[:, sample].double(), s)
    assert torch.equal(spikes, (potentials >= dynamics.threshold).float())
    kept, kept_spikes = potentials.clone(), spikes.clone()
    gradient = potentials if in_place else torch.full((STEPS, NEURONS), math.nan)
    of_decay = kernel.backward(potentials, upstream, gradient, dynamics, constant)
    if constant:
        torch.testing.assert_close(gradient[0, sample].double(), gu.sum(0), rtol=1e-5, atol=1e-5)
    else:
        torch.testing.assert_close(gradient[:, sample].double(), gu, rtol=1e-5, atol=1e-5)
    assert (of_decay is None) == isinstance(dynamics.decay, float)
    if of_decay is not None and not constant:
        reset = torch.where(kept_spikes > 0, 0.0 if dynamics.hard else kept - dynamics.threshold, kept).double()
        expected = (gradient[1:].double() * reset[:-1]).sum()
        torch.testing.assert_close(of_decay.double(), expected, rtol=1e-4, atol=1e-3)
