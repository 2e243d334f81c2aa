"""Copies of arrays on a device, of which a process has one each, whichever of its trainings reads it."""

from collections.abc import Hashable
from weakref import WeakValueDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from supersnn.streams import to_device


class DeviceCopy:
    """An array on a device; any stream may read it.

    values: the array's tensor; the copying may still be under way.
    """

    def __init__(self, array: NDArray[np.float16], device: torch.device) -> None:
        self.values = to_device(torch.from_numpy(np.array(array)), device)
        self._copied = torch.cuda.current_stream(device).record_event() if device.type == "cuda" else None

    def rows(self, rows: Tensor) -> Tensor:
        """Return some rows, int64 [B] on the device, without waiting for the device."""
        if self._copied is not None:
            stream = torch.cuda.current_stream(rows.device)
            stream.wait_event(self._copied)
            self.values.record_stream(stream)  # its memory is free when this stream, too, is done with it
        return self.values[rows]


_COPIES: WeakValueDictionary[tuple[Hashable, torch.device], DeviceCopy] = WeakValueDictionary()


def device_copy(name: Hashable, array: NDArray[np.float16], device: torch.device) -> DeviceCopy:
    """Return the copy of an array on a device, made now unless somebody holds one.

    Args:
        name: identifies the array and its content.
        array: on the host; read only where a copy is made.
        device: where the copy is.
    """
    if (found := _COPIES.get((name, device))) is None:
        found = _COPIES[name, device] = DeviceCopy(array, device)
    return found
