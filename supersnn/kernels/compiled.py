"""The neurons' loop compiled for the CPU: one pass over memory forward and one back. Needs numba, which is optional.

A block of neurons stays in the core's first cache through all time steps. The bits are the same for every number of
threads and of vector lanes: no sum is reordered but the gradient of a decay, whose order is fixed by the blocks.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from supersnn.kernels.dynamics import Dynamics

SURROGATES = {"triangle": 0, "rectangle": 1, "atan": 2}
"""Those that are compiled; the exponential of another one would not be vectorised."""
DTYPES = (torch.float32, torch.float64)

_BLOCK = 2048  # neurons: four rows of them fit a first-level cache of 32 KiB
_LANES = 16  # partial sums of a decay's gradient


def forward(current: Tensor, potentials: Tensor, spikes: Tensor, dynamics: Dynamics) -> None:
    """Run the loop; see `Kernel`."""
    i, u, s = (_array(x) for x in (current, potentials, spikes))
    threshold, decay = (u.dtype.type(x) for x in (dynamics.threshold, float(dynamics.decay)))
    in_place = potentials.data_ptr() == current.data_ptr()
    _spread(lambda first, last: _forward(i, u, s, threshold, decay, dynamics.hard, in_place, first, last), u.shape[1])


def backward(
    potentials: Tensor, of_spikes: Tensor, of_current: Tensor, dynamics: Dynamics, constant: bool
) -> Tensor | None:
    """Run the loop back; see `Kernel`."""
    u, gs, gu = (_array(x) for x in (potentials, of_spikes, of_current))
    threshold, decay, width = (u.dtype.type(x) for x in (dynamics.threshold, float(dynamics.decay), dynamics.width))
    learned = isinstance(dynamics.decay, Tensor)
    sums = np.zeros(-(-u.shape[1] // _BLOCK) if learned else 0)
    kind, hard, detach = SURROGATES[dynamics.surrogate], dynamics.hard, dynamics.detach_reset

    def run(first: int, last: int) -> None:
        _backward(u, gs, gu, sums, threshold, decay, width, kind, hard, detach, learned, constant, first, last)

    _spread(run, u.shape[1])
    return torch.tensor(sums.sum()).to(potentials.dtype) if learned else None


def _array(x: Tensor) -> np.ndarray[Any, Any]:
    array: np.ndarray[Any, Any] = x.detach().numpy()
    return array


def _spread(run: Callable[[int, int], None], neurons: int) -> None:
    """Run over all blocks of neurons, a part of them in each of as many threads as torch has."""
    blocks = -(-neurons // _BLOCK)
    threads = min(torch.get_num_threads(), blocks)
    if threads <= 1:
        run(0, blocks)
        return
    cuts = [blocks * part // threads for part in range(threads + 1)]
    others = [_workers(threads - 1).submit(run, *cut) for cut in pairwise(cuts[1:])]
    run(*cuts[:2])
    for other in others:
        other.result()


@cache
def _workers(count: int) -> ThreadPoolExecutor:
    """So many threads, kept because starting one takes as long as a small layer."""
    return ThreadPoolExecutor(count, thread_name_prefix="lif")


def _compile(function: Callable[..., None]) -> Callable[..., None]:
    """Compile at the first call, to run without the interpreter's lock; keep it on disk, where there is room."""
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    compiled: Callable[..., None]
    try:
        compiled = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # there is no folder that may be written
        compiled = numba.njit(**options)(function)
    return compiled


@_compile
def _forward(current, potentials, spikes, threshold, decay, hard, in_place, first, last):  # type: ignore[no-untyped-def]
    steps, neurons = spikes.shape
    zero, one = spikes.dtype.type(0), spikes.dtype.type(1)
    for block in range(first, last):
        start, stop = block * _BLOCK, min((block + 1) * _BLOCK, neurons)
        for t in range(steps):
            u, s = potentials[t, start:stop], spikes[t, start:stop]
            if not in_place:
                i = current[min(t, len(current) - 1), start:stop]
                for n in range(len(u)):
                    u[n] = i[n]
            if t > 0:
                before = potentials[t - 1, start:stop]
                if hard:
                    for n in range(len(u)):
                        u[n] += decay * (zero if before[n] >= threshold else before[n])
                else:
                    for n in range(len(u)):
                        u[n] += decay * (before[n] - threshold if before[n] >= threshold else before[n])
            for n in range(len(u)):
                s[n] = one if u[n] >= threshold else zero


@_compile
def _backward(  # type: ignore[no-untyped-def]
    potentials, of_spikes, of_current, sums, threshold, decay, width, kind, hard, detach, learned, constant, first, last
):
    steps, neurons = potentials.shape
    number = potentials.dtype.type
    zero, one, half = number(0), number(1), number(0.5)
    slopes, ahead, total = np.empty(_BLOCK, number), np.empty(_BLOCK, number), np.empty(_BLOCK, number)
    lanes = np.empty(_LANES, number)
    for block in range(first, last):
        start, stop = block * _BLOCK, min((block + 1) * _BLOCK, neurons)
        slope, later, summed = slopes[: stop - start], ahead[: stop - start], total[: stop - start]
        if learned:
            lanes[:] = zero
        for t in range(steps - 1, -1, -1):
            u, gs, gu = potentials[t, start:stop], of_spikes[t, start:stop], of_current[t, start:stop]
            if kind == 0:
                peak, fall = one / width, one / (width * width)
                for n in range(len(u)):
                    slope[n] = max(peak - fall * abs(u[n] - threshold), zero)
            elif kind == 1:
                peak = half / width
                for n in range(len(u)):
                    slope[n] = peak if abs(u[n] - threshold) < width else zero
            else:
                peak, scale = half / width, number(np.pi) * half / width
                for n in range(len(u)):
                    x = scale * (u[n] - threshold)
                    slope[n] = peak / (one + x * x)
            if t < steps - 1:
                # `later` is the gradient of u[t+1]; it becomes that of v[t], and then its share of that of u[t]
                if learned:
                    whole = len(u) - len(u) % _LANES
                    for n in range(0, whole, _LANES):
                        for lane in range(_LANES):
                            p = u[n + lane]
                            fired = p >= threshold
                            v = (zero if hard else p - threshold) if fired else p
                            lanes[lane] += later[n + lane] * v
                    for n in range(whole, len(u)):
                        fired = u[n] >= threshold
                        lanes[0] += later[n] * ((zero if hard else u[n] - threshold) if fired else u[n])
                if hard:
                    if detach:
                        for n in range(len(u)):
                            later[n] *= decay if u[n] < threshold else zero
                    else:
                        for n in range(len(u)):
                            later[n] *= decay * ((one if u[n] < threshold else zero) - slope[n] * u[n])
                elif detach:
                    for n in range(len(u)):
                        later[n] *= decay
                else:
                    for n in range(len(u)):
                        later[n] *= decay * (one - slope[n] * threshold)
                for n in range(len(u)):
                    later[n] += gs[n] * slope[n]
            else:
                for n in range(len(u)):
                    later[n] = gs[n] * slope[n]
            if constant:
                if t == steps - 1:
                    summed[:] = later
                else:
                    for n in range(len(u)):
                        summed[n] += later[n]
                if t == 0:
                    gu[:] = summed
            else:
                gu[:] = later
        if learned:
            share = 0.0
            for lane in range(_LANES):
                share += lanes[lane]
            sums[block] = share
