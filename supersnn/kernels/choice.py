"""Which kernel runs the neurons' loop: the fastest that this machine has for a tensor."""

from functools import cache
from types import ModuleType
from typing import cast

from torch import Tensor

from supersnn.kernels import eager
from supersnn.kernels.dynamics import Kernel


def kernel_for(current: Tensor, surrogate: str) -> Kernel:
    """Return what runs the loop for such a current and surrogate: compiled where that can be, else `eager`.

    On the CPU that needs numba, on a GPU Triton, which comes with torch's CUDA builds; neither is needed to train.
    """
    module: ModuleType | None = None
    if current.device.type == "cpu":
        module = _compiled()
        if module is not None and (current.dtype not in module.DTYPES or surrogate not in module.SURROGATES):
            module = None
    elif current.device.type == "cuda":
        module = _triton()
    return cast(Kernel, module or eager)


@cache
def _compiled() -> ModuleType | None:
    try:
        from supersnn.kernels import compiled
    except ImportError:
        return None
    return compiled


@cache
def _triton() -> ModuleType | None:
    try:
        from supersnn.kernels import fused
    except ImportError:
        return None
    return fused
