"""How GPUs compute: torch's settings within a block and after it, and cuBLAS's workspace before its first use."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from supersnn.numerics import matmul_precision, numerics

ROOT = Path(__file__).resolve().parents[2]
CUDA = torch.device("cuda")


def settings() -> dict[str, Any]:
    filling: Any = torch.utils.deterministic
    return {
        "cudnn tf32": torch.backends.cudnn.allow_tf32,
        "matmul tf32": torch.backends.cuda.matmul.allow_tf32,
        "cudnn deterministic": torch.backends.cudnn.deterministic,
        "filling": filling.fill_uninitialized_memory,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "only warn": torch.is_deterministic_algorithms_warn_only_enabled(),
    }


def within(tf32: bool = False, deterministic: bool = False) -> dict[str, Any]:
    return {
        "cudnn tf32": tf32,
        "matmul tf32": False,
        "cudnn deterministic": deterministic,
        "filling": False,
        "deterministic": deterministic,
        "only warn": False,
    }


@pytest.fixture(params=["torch's own", "the user's"])
def outside(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    """The settings around the blocks; those that a test leaves are taken back."""
    filling: Any = torch.utils.deterministic
    torchs = settings()
    if request.param == "the user's":
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = False, True
        torch.backends.cudnn.deterministic, filling.fill_uninitialized_memory = True, False
        torch.use_deterministic_algorithms(True, warn_only=True)
    yield settings()
    torch.backends.cudnn.allow_tf32 = torchs["cudnn tf32"]
    torch.backends.cuda.matmul.allow_tf32 = torchs["matmul tf32"]
    torch.backends.cudnn.deterministic = torchs["cudnn deterministic"]
    filling.fill_uninitialized_memory = torchs["filling"]
    torch.use_deterministic_algorithms(torchs["deterministic"], warn_only=torchs["only warn"])


@pytest.mark.parametrize("tf32", [True, False])
@pytest.mark.parametrize("deterministic", [True, False])
def test_a_block_has_its_settings_and_those_before_it_come_back(
    outside: dict[str, Any], tf32: bool, deterministic: bool
) -> None:
    with numerics(CUDA, tf32, deterministic):
        assert settings() == within(tf32, deterministic)
    assert settings() == outside


def test_blocks_nest(outside: dict[str, Any]) -> None:
    with numerics(CUDA, tf32=True, deterministic=True):
        with numerics(CUDA):
            assert settings() == within()
        assert settings() == within(tf32=True, deterministic=True)
    assert settings() == outside


def test_the_settings_come_back_after_an_exception(outside: dict[str, Any]) -> None:
    with pytest.raises(ZeroDivisionError), numerics(CUDA, deterministic=True):
        _ = 1 / 0
    assert settings() == outside


def test_nothing_is_set_for_a_cpu(outside: dict[str, Any]) -> None:
    with numerics(torch.device("cpu"), tf32=True, deterministic=True):
        assert settings() == outside


def test_products_of_matrices_are_in_full_precision_whatever_is_set_outside(outside: dict[str, Any]) -> None:
    assert matmul_precision(CUDA) == "fp32"
    assert settings() == outside


@pytest.mark.parametrize("module", ["supersnn.gpus", "supersnn.training", "supersnn.teacher_fit"])
@pytest.mark.parametrize(("before", "expected"), [(None, ":4096:8"), (":16:8", ":16:8")])
def test_cublas_has_a_deterministic_workspace_before_any_product(
    module: str, before: str | None, expected: str
) -> None:
    """cuBLAS reads it once, at a process's first product: the check of a GPU makes one long before a training."""
    script = f"import os, torch, {module}\nprint(os.environ.get('CUBLAS_WORKSPACE_CONFIG'))\n"
    environment = {name: value for name, value in os.environ.items() if name != "CUBLAS_WORKSPACE_CONFIG"}
    if before:
        environment["CUBLAS_WORKSPACE_CONFIG"] = before
    found = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == expected
