"""What is decided for GPUs before any is used."""

import os

import pytest
import torch

from supersnn.gpus import ask_for_queues
from supersnn.numerics import gpu_precision


def test_cuda_is_asked_for_queues_unless_the_environment_says_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_DEVICE_MAX_CONNECTIONS", "4")  # so that it is taken back
    ask_for_queues()
    assert os.environ["CUDA_DEVICE_MAX_CONNECTIONS"] == "4"
    monkeypatch.delenv("CUDA_DEVICE_MAX_CONNECTIONS")
    ask_for_queues()
    assert os.environ["CUDA_DEVICE_MAX_CONNECTIONS"] == "32"


@pytest.mark.parametrize("emulated", [True, False])
def test_bf16_is_for_gpus_that_do_not_emulate_it(emulated: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    if not emulated:
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    assert gpu_precision("cuda") == ("fp32" if emulated else "bf16")
    assert gpu_precision("cpu") == "fp32"
