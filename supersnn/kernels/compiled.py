"""The neurons' loop compiled by numba for CPUs: one pass over memory forward and one backward.

A block of neurons stays in the core's first-level cache through all time steps. The bits do not depend on the number of
threads and vector lanes: the only sum is the gradient of a decay, whose order is fixed by the blocks.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from supersnn.kernels.dynamics import Dynamics

SURROGATES = {"triangle": 0, "rectangle": 1, "atan": 2}
"""The compiled surrogates; the exponential of `sigmoid` would not be vectorised."""
DTYPES = (torch.float32, torch.float64)

_BLOCK = 2048  # neurons: four rows of them fit a first-level cache of 32 KiB
_LANES = 16  # partial sums of a decay's gradient


def forward(
    current: Tensor, potentials: Tensor, spikes: Tensor, dynamics: Dynamics, count: Tensor | None = None
) -> None:
    """Run the loop; see `Kernel`."""
    i, u, s = (_array(x) for x in (current, potentials, spikes))
    threshold, decay = (u.dtype.type(x) for x in (dynamics.threshold, float(dynamics.decay)))
    in_place = potentials.data_ptr() == current.data_ptr()
    _run(_forward, _forward_in_threads, u.shape[1], i, u, s, threshold, decay, dynamics.hard, in_place)
    if count is not None:
        count += spikes.sum()


def backward(
    potentials: Tensor, of_spikes: Tensor, of_current: Tensor, dynamics: Dynamics, constant: bool
) -> Tensor | None:
    """Run the loop backward; see `Kernel`."""
    u, gs, gu = (_array(x) for x in (potentials, of_spikes, of_current))
    threshold, decay, width = (u.dtype.type(x) for x in (dynamics.threshold, float(dynamics.decay), dynamics.width))
    learned = isinstance(dynamics.decay, Tensor)
    sums = np.zeros(-(-u.shape[1] // _BLOCK) if learned else 0)
    options = SURROGATES[dynamics.surrogate], dynamics.hard, dynamics.detach_reset, learned, constant
    _run(_backward, _backward_in_threads, u.shape[1], u, gs, gu, sums, threshold, decay, width, *options)
    return torch.tensor(sums.sum()).to(potentials.dtype) if learned else None


def _array(x: Tensor) -> np.ndarray[Any, Any]:
    array: np.ndarray[Any, Any] = x.detach().numpy()
    return array


def _run(serial: Callable[..., None], parallel: Callable[..., None], neurons: int, *arguments: Any) -> None:
    """Process all blocks of neurons on as many threads as torch uses.

    These are torch's own threads, because both use the OpenMP of the process. Other threads would compete with torch's,
    which spin on the cores for some time after each operation.
    """
    blocks = -(-neurons // _BLOCK)
    threads = min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS, blocks)
    if threads <= 1:
        serial(*arguments, 0, blocks)
        return
    numba.set_num_threads(threads)
    parallel(*arguments, blocks, threads)


def _compile(function: Callable[..., None], parallel: bool = False) -> Callable[..., None]:
    """Compile at the first call, to run without the interpreter's lock; cache on disk if a folder is writable."""
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "parallel": parallel}
    compiled: Callable[..., None]
    try:
        compiled = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # no folder for the cache is writable
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


@partial(_compile, parallel=True)
def _forward_in_threads(  # type: ignore[no-untyped-def]
    current, potentials, spikes, threshold, decay, hard, in_place, blocks, threads
):
    for part in numba.prange(threads):
        first, last = blocks * part // threads, blocks * (part + 1) // threads
        _forward(current, potentials, spikes, threshold, decay, hard, in_place, first, last)


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
            for lane in range(_LANES):
                lanes[lane] = zero
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
            if not constant:
                for n in range(len(u)):
                    gu[n] = later[n]
            elif t == steps - 1:
                for n in range(len(u)):
                    summed[n] = later[n]
            else:
                for n in range(len(u)):
                    summed[n] += later[n]
            if constant and t == 0:
                for n in range(len(u)):
                    gu[n] = summed[n]
        if learned:
            share = 0.0
            for lane in range(_LANES):
                share += lanes[lane]
            sums[block] = share


@partial(_compile, parallel=True)
def _backward_in_threads(  # type: ignore[no-untyped-def]
    potentials, of_spikes, of_current, sums, threshold, decay, width, kind, hard, detach, learned, constant,
    blocks, threads,
):  # fmt: skip
    for part in numba.prange(threads):
        first, last = blocks * part // threads, blocks * (part + 1) // threads
        _backward(
            potentials, of_spikes, of_current, sums, threshold, decay, width, kind, hard, detach, learned, constant,
            first, last,
        )  # fmt: skip
