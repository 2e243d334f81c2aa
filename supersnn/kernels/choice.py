"""Selection of the kernel for the neurons' loop: the fastest that supports a tensor and a surrogate."""

from functools import cache
from types import ModuleType
from typing import cast

from torch import Tensor

from supersnn.kernels import eager
from supersnn.kernels.dynamics import Kernel


def kernel_for(current: Tensor, surrogate: str) -> Kernel:
    """Return the kernel for such a current and surrogate: `compiled` on CPUs, `fused` on GPUs, `eager` otherwise."""
    loaders = {"cpu": _compiled, "cuda": _fused}
    module = loaders[current.device.type]() if current.device.type in loaders else None
    if module is None or current.dtype not in module.DTYPES or surrogate not in module.SURROGATES:
        return cast(Kernel, eager)
    return cast(Kernel, module)


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
