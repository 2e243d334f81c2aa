"""What NVIDIA's management library says of a GPU: the driver's version, how busy it is, its memory and its power.

Everything here needs nvidia-ml-py (the extra ``gpu``) and the library that comes with NVIDIA's driver; without either,
there are no readings.
"""

import time
from collections.abc import Callable
from functools import cache
from typing import Any

import torch

from supersnn.records.metrics import GPU_MEMORY, GPU_POWER, GPU_UTILIZATION


@cache
def library() -> Any:
    """Return the `pynvml` module, initialised; None where it or the driver's library is missing."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # ImportError, or NVMLError where there is no driver
        return None
    return pynvml


def driver_version() -> str | None:
    """Return the version of the driver, None where it is not known."""
    nvml = library()
    if nvml is None:
        return None
    version = nvml.nvmlSystemGetDriverVersion()
    return version.decode() if isinstance(version, bytes) else str(version)


class GpuReadings:
    """Readings of one GPU, all processes on it together."""

    def __init__(self, device: torch.device | str) -> None:
        """Begin with the readings of a device of torch's; a CPU has none."""
        self._handle = _handle(torch.device(device))
        self._energy, self._time = self._joules(), time.monotonic()

    def take(self) -> dict[str, float]:
        """Return the readings by their metrics' keys, without those that this GPU does not give.

        The utilization is that of the last second at most, as a fraction; the memory is in GB; the power in watts is
        the mean since the last call, or since the beginning.
        """
        if self._handle is None:
            return {}
        nvml, handle = library(), self._handle
        energy, now = self._joules(), time.monotonic()
        found = {
            GPU_UTILIZATION.key: _reading(lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100),
            GPU_MEMORY.key: _reading(lambda: nvml.nvmlDeviceGetMemoryInfo(handle).used / 1e9),
        }
        if energy is not None and self._energy is not None and now > self._time:
            found[GPU_POWER.key] = (energy - self._energy) / (now - self._time)
        self._energy, self._time = energy, now
        return {key: value for key, value in found.items() if value is not None}

    def _joules(self) -> float | None:
        """Return the energy that the GPU has taken since its driver was loaded."""
        if self._handle is None:
            return None
        return _reading(lambda: library().nvmlDeviceGetTotalEnergyConsumption(self._handle) / 1000)


def _handle(device: torch.device) -> Any:
    """Return the library's handle of a device: torch numbers only the GPUs that this process may see."""
    if device.type != "cuda" or (nvml := library()) is None:
        return None
    identity = torch.cuda.get_device_properties(device).uuid
    return _reading(lambda: nvml.nvmlDeviceGetHandleByUUID(f"GPU-{identity}"))


def _reading(read: Callable[[], Any]) -> Any:
    """Return what a call of the library returns, None where the GPU does not support it or is gone."""
    try:
        return read()
    except library().NVMLError:
        return None
