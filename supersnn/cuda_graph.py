"""Capture of work as a CUDA graph, which a GPU replays without waiting for the host."""

import warnings
from collections.abc import Callable
from contextlib import suppress

import torch

_FAILED: list[torch.cuda.CUDAGraph] = []
"""Graphs whose capture could not be ended: torch's allocators may still ask them whether an allocation is theirs."""


def captured(work: Callable[[], None], what: str) -> torch.cuda.CUDAGraph | None:
    """Return some work as a graph of the current stream; None, with a warning, where it cannot be captured.

    Args:
        work: on tensors that stay where they are; it is not done by the capture itself.
        what: does the work, for the warning; a plural.

    Raises:
        torch.OutOfMemoryError: the GPU's memory is full.
    """
    graph, pool = torch.cuda.CUDAGraph(), torch.cuda.graph_pool_handle()
    try:
        with torch.cuda.graph(graph, pool, torch.cuda.current_stream(), capture_error_mode="thread_local"):
            work()
    except RuntimeError as error:
        _give_up(graph, pool)
        for cause in (error, error.__context__):  # to end the capture can fail as well
            if isinstance(cause, torch.OutOfMemoryError):
                raise cause from None
        text = " ".join(str(error).split())[:300]
        warnings.warn(f"{what} run without a CUDA graph, more slowly: {text}", stacklevel=3)
        return None
    return graph


def _give_up(graph: torch.cuda.CUDAGraph, pool: tuple[int, int]) -> None:
    """Tell torch's allocator that a capture into a pool has ended, if it does not know.

    Where CUDA refuses to end a capture, torch (2.11 at least) raises before it tells its allocator. That would take the
    process to be capturing from then on: it would free no unused memory, neither when asked nor when memory is short.
    """
    with suppress(RuntimeError):  # the capture was ended in order; the pool goes with the graph
        torch._C._cuda_endAllocateToPool(torch.cuda.current_device(), pool)
        _FAILED.append(graph)
        torch._C._cuda_releasePool(torch.cuda.current_device(), pool)
