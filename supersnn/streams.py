"""A training's stream on a GPU, and copies between host and device that do not wait.

On CPUs there are no streams: everything here then does the plain thing.
"""

from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from types import TracebackType

import torch
from torch import Tensor

from supersnn.numerics import numerics


class Turn:
    """A context in which a training works on its device: its own stream there, and its own numerics.

    The context can be entered again and again; what it has launched goes on meanwhile.
    """

    def __init__(self, device: torch.device, tf32: bool, deterministic: bool) -> None:
        self._device, self._tf32, self._deterministic = device, tf32, deterministic
        self._stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)
            self._stream.wait_stream(torch.cuda.current_stream(device))  # images, weights
        self._open = ExitStack()

    def __enter__(self) -> None:
        self._open.enter_context(numerics(self._device, self._tf32, self._deterministic))
        if self._stream is not None:
            self._open.enter_context(torch.cuda.stream(self._stream))

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._open.close()

    def mark(self) -> Callable[[], bool]:
        """Return a function that tells whether everything that was launched so far is done."""
        if self._stream is None:
            return lambda: True
        return self._stream.record_event().query

    def end(self) -> None:
        """Wait until everything that was launched is done: only then may the memory that it uses be freed.

        An error of CUDA is left to whoever uses the device next: here a training ends, perhaps because of that error.
        """
        if self._stream is not None:
            with suppress(RuntimeError):
                self._stream.synchronize()


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """Return a copy of a host tensor on a device, without waiting for the device; on a CPU the tensor itself."""
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values


def to_host(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return copies of some tensors on the host; this waits for the device once.

    They are in ordinary memory, so that any thread may free them at any time. torch records an event when pinned memory
    is freed, which breaks the capture of a graph: here that happens in the thread that captures.
    """
    copies, device = {}, None
    for name, tensor in tensors.items():
        source = tensor.detach()
        if source.is_cuda:
            device = source.device
            copies[name] = torch.empty_like(source, device="cpu", pin_memory=True).copy_(source, non_blocking=True)
        else:
            copies[name] = source.to("cpu", copy=True)
    if device is None:
        return copies
    torch.cuda.current_stream(device).synchronize()
    return {name: copy.clone() if tensors[name].is_cuda else copy for name, copy in copies.items()}
