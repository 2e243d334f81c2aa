"""Copies from a device to the host, with a pretended device."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from supersnn.streams import to_host


class OnDevice(Tensor):
    """A tensor that says it is on a GPU."""

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        return True

    def detach(self) -> "OnDevice":
        return self


def test_copies_from_a_device_are_complete_and_in_ordinary_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pinned memory that another thread frees during a capture would break the capture."""
    pinned: list[Tensor] = []
    plain: Callable[..., Tensor] = torch.empty_like

    def empty_like(source: Tensor, **options: Any) -> Tensor:
        if options.pop("pin_memory", False):
            pinned.append(plain(source.as_subclass(Tensor), **options).fill_(-1))
            return pinned[-1]
        return plain(source, **options)

    class Stream:
        def synchronize(self) -> None:
            for copy in pinned:
                copy += 1  # the copies are not there before

    monkeypatch.setattr(torch, "empty_like", empty_like)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _device: Stream())
    tensors = {"weight": torch.arange(6.0).view(2, 3).as_subclass(OnDevice), "count": torch.tensor(7)}
    copies = to_host(tensors)
    assert copies["weight"].tolist() == [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
    assert copies["count"].item() == 7
    (held,) = pinned
    assert copies["weight"].data_ptr() != held.data_ptr()
    assert copies["count"].data_ptr() != tensors["count"].data_ptr()
