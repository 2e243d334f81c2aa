"""Capture of work as a CUDA graph, which a GPU replays without waiting for the host."""

import warnings
from collections.abc import Callable

import torch


def captured(work: Callable[[], None], what: str) -> torch.cuda.CUDAGraph | None:
    """Return some work as a graph of the current stream; None, with a warning, where it cannot be captured.

    Args:
        work: on tensors that stay where they are; it is not done by the capture itself.
        what: does the work, for the warning; a plural.

    Raises:
        torch.OutOfMemoryError: the GPU's memory is full.
    """
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph, stream=torch.cuda.current_stream(), capture_error_mode="thread_local"):
            work()
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        text = " ".join(str(error).split())[:300]
        warnings.warn(f"{what} run without a CUDA graph, more slowly: {text}", stacklevel=3)
        return None
    return graph
