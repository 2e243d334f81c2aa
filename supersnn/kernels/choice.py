"""Selection of the kernel for the neurons' loop: the fastest that supports a tensor and a surrogate, and runs here."""

import warnings
from functools import cache
from types import ModuleType
from typing import cast

import torch
from torch import Tensor

from supersnn.kernels import eager
from supersnn.kernels.dynamics import Dynamics, Kernel


def kernel_for(current: Tensor, surrogate: str) -> Kernel:
    """Return the kernel for such a current and surrogate: `compiled` on CPUs, `fused` on GPUs, `eager` otherwise.

    `fused` is compiled for each kind of machine when it is first used. Where that fails, for instance because there is
    no C compiler, this warns once in a process, and `eager` computes the same more slowly.
    """
    if current.device.type == "cpu":
        module = _compiled()
    elif current.device.type == "cuda":
        module = _fused() if fused_fault() is None else None
    else:
        module = None
    if module is None or current.dtype not in module.DTYPES or surrogate not in module.SURROGATES:
        return cast(Kernel, eager)
    return cast(Kernel, module)


@cache
def fused_fault() -> str | None:
    """Return why the GPU's kernel does not run on this machine, None where it does; found by a launch, once a process.

    The launch is of a small loop with a known result, so that a GPU that computes wrongly is found too.
    """
    if _fused() is None:
        fault = "Triton is not installed"
    else:
        fault = trial_launch(torch.device("cuda")) or ""
    if fault:
        warnings.warn(f"spiking layers run without their GPU kernel, several times slower: {fault}", stacklevel=3)
    return fault or None


def trial_launch(device: torch.device) -> str | None:
    """Run the fused kernel on a small loop, forward and backward; return in a line why it fails, None if it is right.

    Two neurons, two steps, decay ½, hard reset at 1: the currents (0.5, 0.5) and (2, 0.25) give no spike and one.
    """
    from supersnn.kernels import fused

    dynamics = Dynamics(1.0, 0.5, True, "rectangle", 1.0, True)
    expected = {"spikes": [[0.0, 1.0], [0.0, 0.0]], "gradient": [[0.75, 0.0], [0.5, 0.5]]}
    try:
        current = torch.tensor([[0.5, 2.0], [0.5, 0.25]], device=device)
        potentials, spikes, gradient = (torch.empty_like(current) for _ in range(3))
        fused.forward(current, potentials, spikes, dynamics)
        fused.backward(potentials, torch.ones_like(spikes), gradient, dynamics, constant=False)
        found = {"spikes": spikes.tolist(), "gradient": gradient.tolist()}
    except Exception as error:  # of Triton, of the C compiler, of CUDA
        return " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return None if found == expected else f"it computes {found}, expected {expected}"


@cache
def _compiled() -> ModuleType | None:
    """Return the numba kernel; None where exports are loaded without numba (see `supersnn.exported`)."""
    try:
        from supersnn.kernels import compiled
    except ImportError:
        return None
    return compiled


@cache
def _fused() -> ModuleType | None:
    """Return the Triton kernel, None without Triton, which is part of torch's CUDA builds."""
    try:
        from supersnn.kernels import fused
    except ImportError:
        return None
    return fused
