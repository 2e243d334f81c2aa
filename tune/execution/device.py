"""The device that this process's work runs on, as the sweep's `resources` say: whoever starts the work names it."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

_named: ContextVar[str | None] = ContextVar("device", default=None)


def device_of(gpus: float) -> str:
    """Return the device of work that takes so many GPUs."""
    return "cuda" if gpus else "cpu"


def working_device() -> str:
    """Return the device of the work under way; outside of any, a GPU where torch sees one."""
    if (named := _named.get()) is not None:
        return named
    import torch

    return device_of(torch.cuda.device_count())


def visible_gpus(device: str) -> str | None:
    """Return the numbers of this process's GPUs on its node; None where it uses none, or they are not known."""
    return (os.environ.get("CUDA_VISIBLE_DEVICES") or None) if device == "cuda" else None


@contextmanager
def working_on(device: str | None) -> Iterator[None]:
    """Name the device of the work in this block; None leaves it open."""
    token = _named.set(device)
    try:
        yield
    finally:
        _named.reset(token)


def run_on(device: str, function: Callable[[T], R], item: T) -> R:
    """Return the function's result for an item, computed on a device."""
    with working_on(device):
        return function(item)
