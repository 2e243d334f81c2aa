"""The capture of work in a CUDA graph, with a pretended torch.cuda: what follows from a capture that fails."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from supersnn import cuda_graph
from supersnn.cuda_graph import captured

POOL = (0, 7)


class Cuda:
    """A GPU's allocator and captures: `ends` is whether a capture can be ended, and so the allocator told."""

    def __init__(self) -> None:
        self.ends = True
        self.underway: list[tuple[int, int]] = []
        self.released: list[tuple[int, tuple[int, int]]] = []

    def graph(self, _graph: object, pool: tuple[int, int], stream: str, capture_error_mode: str) -> "Capture":
        assert (stream, capture_error_mode) == ("this stream", "thread_local")
        return Capture(self, pool)

    def end_allocate(self, _device: int, pool: tuple[int, int]) -> None:
        if pool not in self.underway:
            raise RuntimeError("endAllocatePool: not currently recording to mempool_id")
        self.underway.remove(pool)

    def release(self, device: int, pool: tuple[int, int]) -> None:
        self.released.append((device, pool))


class Capture:
    def __init__(self, cuda: Cuda, pool: tuple[int, int]) -> None:
        self.cuda, self.pool = cuda, pool

    def __enter__(self) -> None:
        self.cuda.underway.append(self.pool)

    def __exit__(self, *_: object) -> None:
        if not self.cuda.ends:
            raise RuntimeError("CUDA error: operation failed due to a previous error during capture")
        self.cuda.underway.remove(self.pool)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    pretended = Cuda()
    names: dict[str, Any] = {
        "CUDAGraph": object,
        "graph_pool_handle": lambda: POOL,
        "graph": pretended.graph,
        "current_stream": lambda: "this stream",
        "current_device": lambda: 3,
    }
    for name, value in names.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", pretended.end_allocate, raising=False)
    monkeypatch.setattr(torch._C, "_cuda_releasePool", pretended.release, raising=False)
    monkeypatch.setattr(cuda_graph, "_FAILED", [])
    return pretended


def raising(error: Exception) -> Callable[[], None]:
    def work() -> None:
        raise error

    return work


def test_work_is_captured_without_being_given_up(cuda: Cuda) -> None:
    done: list[bool] = []
    assert captured(lambda: done.append(True), "steps") is not None
    assert done == [True]
    assert (cuda.underway, cuda.released, cuda_graph._FAILED) == ([], [], [])


@pytest.mark.parametrize("ends", [True, False])
def test_work_that_cannot_be_captured_gives_none_and_a_warning(cuda: Cuda, ends: bool) -> None:
    """The allocator knows in either case that nothing is captured any more; a graph that it may ask lives on."""
    cuda.ends = ends
    message = "refused" if ends else "a previous error during capture"
    with pytest.warns(UserWarning, match=f"steps run without a CUDA graph, more slowly: .*{message}"):
        assert captured(raising(RuntimeError("refused\nby CUDA")), "steps") is None
    assert cuda.underway == []
    assert cuda.released == ([] if ends else [(3, POOL)])
    assert len(cuda_graph._FAILED) == (0 if ends else 1)


@pytest.mark.parametrize("ends", [True, False])
def test_full_memory_is_no_reason_to_go_on_without_a_graph(cuda: Cuda, ends: bool) -> None:
    cuda.ends = ends
    with pytest.raises(torch.OutOfMemoryError, match="full"):
        captured(raising(torch.OutOfMemoryError("full")), "steps")
    assert cuda.underway == []


def test_a_mistake_in_the_work_is_raised(cuda: Cuda) -> None:
    with pytest.raises(KeyError):
        captured(raising(KeyError("name")), "steps")
    assert cuda.underway == []
