"""Readings of a GPU, with a pretended library: without NVIDIA's driver there is no real one."""

import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from supersnn import nvml
from supersnn.nvml import GpuReadings, driver_version


class Library(ModuleType):
    """The functions of `pynvml` that are used; a GPU that supports what is in `supported`."""

    class NVMLError(Exception):
        """Whatever the library complains of."""

    def __init__(self) -> None:
        super().__init__("pynvml")
        self.supported = {"utilization", "memory", "energy"}
        self.millijoules = 1_000_000
        self.asked: list[str] = []

    def nvmlInit(self) -> None:
        pass

    def nvmlSystemGetDriverVersion(self) -> bytes:
        return b"580.10"

    def nvmlDeviceGetHandleByUUID(self, identity: str) -> str:
        self.asked.append(identity)
        if identity != "GPU-own":
            raise self.NVMLError("not found")
        return "handle"

    def nvmlDeviceGetUtilizationRates(self, _handle: str) -> Any:
        return self._if("utilization", SimpleNamespace(gpu=87, memory=12))

    def nvmlDeviceGetMemoryInfo(self, _handle: str) -> Any:
        return self._if("memory", SimpleNamespace(used=6_500_000_000, total=80_000_000_000))

    def nvmlDeviceGetTotalEnergyConsumption(self, _handle: str) -> Any:
        return self._if("energy", self.millijoules)

    def _if(self, what: str, value: Any) -> Any:
        if what not in self.supported:
            raise self.NVMLError("not supported")
        return value


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Iterator[Library]:
    made = Library()
    monkeypatch.setitem(sys.modules, "pynvml", made)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _device: SimpleNamespace(uuid="own"))
    nvml.library.cache_clear()
    yield made
    nvml.library.cache_clear()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr("supersnn.nvml.time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def test_utilization_memory_and_the_mean_power_since_the_last_reading(library: Library, clock: list[float]) -> None:
    readings = GpuReadings("cuda:0")
    clock[0], library.millijoules = 110.0, 3_500_000
    assert readings.take() == {"gpu/utilization": 0.87, "gpu/memory_gb": 6.5, "gpu/power_w": pytest.approx(250.0)}
    clock[0], library.millijoules = 112.0, 3_900_000
    assert readings.take()["gpu/power_w"] == pytest.approx(200.0)
    assert library.asked == ["GPU-own"], "the library numbers all GPUs, torch only the visible ones"


def test_what_a_gpu_does_not_support_is_left_out(library: Library) -> None:
    library.supported = {"memory"}
    assert GpuReadings("cuda").take() == {"gpu/memory_gb": 6.5}


@pytest.mark.usefixtures("library")
def test_a_gpu_that_the_library_does_not_know_has_no_readings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _device: SimpleNamespace(uuid="another"))
    assert GpuReadings("cuda:1").take() == {}


def test_a_cpu_has_no_readings(library: Library) -> None:
    assert GpuReadings("cpu").take() == {}
    assert not library.asked


@pytest.mark.usefixtures("library")
def test_the_drivers_version_is_text() -> None:
    assert driver_version() == "580.10"


def test_without_the_library_there_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    nvml.library.cache_clear()
    assert driver_version() is None
    assert GpuReadings("cuda:0").take() == {}
    nvml.library.cache_clear()
