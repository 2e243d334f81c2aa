"""How GPUs compute: which operations may round to TF32, and whether the same work gives the same bits.

torch keeps these settings for the whole process, so they are set for a block of work and restored after it. On CPUs
nothing is set: there results are reproducible as they are. One of them can be set only once: cuBLAS takes its workspace
at a process's first product of matrices on a GPU, so the import of this module asks for one with which products are
deterministic, unless the environment names another. Whatever uses a GPU here imports this module before.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def gpu_precision(device: torch.device | str) -> Literal["fp32", "bf16"]:
    """Return the precision that teachers are trained and run in on a device: bf16 on GPUs that have it.

    GPUs that only emulate it are slower with it.
    """
    there = torch.device(device).type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16" if there else "fp32"


@contextmanager
def numerics(device: torch.device, tf32: bool = False, deterministic: bool = False) -> Iterator[None]:
    """Set for a block how operations on a device compute; without `tf32` in full single precision.

    Args:
        device: a CPU is left as it is.
        tf32: convolutions in single precision may round their inputs to TF32, 10 bits of mantissa. Products of matrices
            never do: relations between samples are differences of them.
        deterministic: only algorithms that give the same bits for the same input on the same kind of GPU.

    Raises:
        RuntimeError: from the block, where an operation has no deterministic algorithm.
    """
    if device.type != "cuda":
        yield
        return
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    filling: Any = torch.utils.deterministic  # torch's types lack its property
    before = cudnn.allow_tf32, matmul.allow_tf32, cudnn.deterministic, filling.fill_uninitialized_memory
    required, only_warn = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    try:
        cudnn.allow_tf32, matmul.allow_tf32 = tf32, False
        cudnn.deterministic = deterministic
        filling.fill_uninitialized_memory = False
        torch.use_deterministic_algorithms(deterministic)
        yield
    finally:
        cudnn.allow_tf32, matmul.allow_tf32, cudnn.deterministic, filling.fill_uninitialized_memory = before
        torch.use_deterministic_algorithms(required, warn_only=only_warn)


def matmul_precision(device: torch.device) -> Literal["fp32", "tf32"]:
    """Return the precision that products of matrices in single precision have within `numerics` on a device."""
    with numerics(device):
        return "tf32" if torch.backends.cuda.matmul.allow_tf32 else "fp32"
