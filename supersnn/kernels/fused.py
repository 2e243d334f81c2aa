"""The neurons' loop as one Triton kernel for GPUs: every value is read once and written once.

Tested with Triton's interpreter on CPUs; not benchmarked on a GPU.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from supersnn.kernels.dynamics import Dynamics

SURROGATES = {"triangle": 0, "rectangle": 1, "atan": 2, "sigmoid": 3}
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
"""Dtypes of the tensors; the kernel computes in float32."""
_BLOCK = 1024  # neurons of one program


def forward(
    current: Tensor, potentials: Tensor, spikes: Tensor, dynamics: Dynamics, count: Tensor | None = None
) -> None:
    """Run the loop; see `Kernel`."""
    steps, neurons = spikes.shape
    decay, learned = _decay(dynamics, spikes)
    with torch.cuda.device_of(spikes):  # Triton launches on the current device
        _forward[_grid(neurons)](
            current, potentials, spikes, spikes if count is None else count, decay, neurons, dynamics.threshold,
            dynamics.decay if not learned else 0.0,
            STEPS=steps, CONSTANT=len(current) == 1, HARD=dynamics.hard, LEARNED=learned, COUNT=count is not None,
            BLOCK=_BLOCK,
        )  # fmt: skip


def backward(
    potentials: Tensor, of_spikes: Tensor, of_current: Tensor, dynamics: Dynamics, constant: bool
) -> Tensor | None:
    """Run the loop backward; see `Kernel`."""
    steps, neurons = potentials.shape
    decay, learned = _decay(dynamics, potentials)
    grid = _grid(neurons)
    sums = torch.zeros(grid[0] if learned else 1, dtype=torch.float32, device=potentials.device)
    with torch.cuda.device_of(potentials):
        _backward[grid](
            potentials, of_spikes, of_current, sums, decay, neurons, dynamics.threshold,
            dynamics.decay if not learned else 0.0, dynamics.width,
            STEPS=steps, CONSTANT=constant, HARD=dynamics.hard, DETACH=dynamics.detach_reset, LEARNED=learned,
            KIND=SURROGATES[dynamics.surrogate], BLOCK=_BLOCK,
        )  # fmt: skip
    return sums.sum().to(decay.dtype) if learned else None  # not in the potentials' precision, which may be half


def _grid(neurons: int) -> tuple[int]:
    return (triton.cdiv(neurons, _BLOCK),)


def _decay(dynamics: Dynamics, like: Tensor) -> tuple[Tensor, bool]:
    """Return a learnable decay as a tensor, which avoids a synchronisation; else `like` as a placeholder."""
    return (dynamics.decay, True) if isinstance(dynamics.decay, Tensor) else (like, False)


@triton.jit
def _forward(  # type: ignore[no-untyped-def]
    current, potentials, spikes, count, learned_decay, neurons, threshold, decay,
    STEPS: tl.constexpr, CONSTANT: tl.constexpr, HARD: tl.constexpr, LEARNED: tl.constexpr, COUNT: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < neurons
    stride = tl.cast(neurons, tl.int64)  # so that t * stride does not overflow
    if LEARNED:
        decay = tl.load(learned_decay).to(tl.float32)
    v = tl.zeros([BLOCK], tl.float32)
    counted = tl.zeros([BLOCK], tl.int32)
    for t in tl.static_range(STEPS):
        row = at if CONSTANT else at + t * stride
        u = decay * v + tl.load(current + row, mask=inside, other=0.0).to(tl.float32)
        tl.store(potentials + at + t * stride, u.to(potentials.dtype.element_ty), mask=inside)
        u = u.to(potentials.dtype.element_ty).to(tl.float32)  # as the backward pass reads it
        fired = u >= threshold
        tl.store(spikes + at + t * stride, fired.to(spikes.dtype.element_ty), mask=inside)
        v = tl.where(fired, 0.0 if HARD else u - threshold, u)
        if COUNT:
            counted += (fired & inside).to(tl.int32)
    if COUNT:  # a sum of integers: exact in any order
        tl.atomic_add(count, tl.sum(counted, 0).to(tl.float64))


@triton.jit
def _backward(  # type: ignore[no-untyped-def]
    potentials, of_spikes, of_current, sums, learned_decay, neurons, threshold, decay, width,
    STEPS: tl.constexpr, CONSTANT: tl.constexpr, HARD: tl.constexpr, DETACH: tl.constexpr, LEARNED: tl.constexpr,
    KIND: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < neurons
    stride = tl.cast(neurons, tl.int64)
    if LEARNED:
        decay = tl.load(learned_decay).to(tl.float32)
    of_u = tl.zeros([BLOCK], tl.float32)
    total = tl.zeros([BLOCK], tl.float32)
    of_decay = tl.zeros([BLOCK], tl.float32)
    for back in tl.static_range(STEPS):
        row = at + (STEPS - 1 - back) * stride
        u = tl.load(potentials + row, mask=inside, other=0.0).to(tl.float32)
        x = u - threshold
        if KIND == 0:
            slope = tl.maximum(1.0 / width - tl.abs(x) / (width * width), 0.0)
        elif KIND == 1:
            slope = tl.where(tl.abs(x) < width, 0.5 / width, 0.0)
        elif KIND == 2:
            scaled = 3.141592653589793 / (2.0 * width) * x
            slope = 0.5 / width / (1.0 + scaled * scaled)
        else:
            s = tl.sigmoid(x / width)
            slope = s * (1.0 - s) / width
        fired = u >= threshold
        if LEARNED:  # of_u still is the gradient of the next step's potential
            of_decay += tl.where(inside, of_u * tl.where(fired, 0.0 if HARD else x, u), 0.0)
        through = tl.where(fired, 0.0, 1.0) if HARD else tl.full([BLOCK], 1.0, tl.float32)
        if not DETACH:
            through -= slope * (u if HARD else threshold)
        of_u = tl.load(of_spikes + row, mask=inside, other=0.0).to(tl.float32) * slope + of_u * decay * through
        if CONSTANT:
            total += of_u
        else:
            tl.store(of_current + row, of_u.to(of_current.dtype.element_ty), mask=inside)
    if CONSTANT:
        tl.store(of_current + at, total.to(of_current.dtype.element_ty), mask=inside)
    if LEARNED:
        tl.store(sums + tl.program_id(0), tl.sum(of_decay, 0))
