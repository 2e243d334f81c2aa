"""The neurons' kernel compiled to machine code for GPUs, on a machine without one: Triton's wheel has the assembler.

Each launch goes through Triton's own binding of arguments, so that a wrong signature, dtype or operation fails here.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from supersnn.kernels.dynamics import Dynamics

pytest.importorskip("triton")

import triton
from triton.backends.compiler import GPUTarget

from supersnn.kernels import fused


class Case(NamedTuple):
    """What the kernels are specialised on, and the capability of the GPU."""

    dtype: torch.dtype
    surrogate: str
    hard: bool
    detach: bool
    learned: bool
    constant: bool
    counted: bool
    capability: int
    steps: int = 2
    neurons: int = 2500


MAIN: tuple[Sequence[Any], ...] = (fused.DTYPES, tuple(fused.SURROGATES), *[(True, False)] * 5, (90, 80))
EVERY = [Case(*values) for values in itertools.product(*MAIN)]
SIZES = list(itertools.product((1, 2, 4), (1, 2500, 4096)))  # Triton has variants for 1 and for multiples of 16


def pairs(case: Case) -> set[tuple[Any, ...]]:
    return {(i, case[i], j, case[j]) for i, j in itertools.combinations(range(len(case)), 2)}


def covering() -> Iterator[Case]:
    """Yield few cases that have each pair of values together, chosen greedily."""
    candidates = [case._replace(steps=steps, neurons=neurons) for steps, neurons in SIZES for case in EVERY]
    found = {case: pairs(case) for case in candidates}
    left = set().union(*found.values())
    while left:
        case = max(found, key=lambda case: len(found[case] & left))
        left -= found.pop(case)
        yield case


class Driver:
    """In the place of CUDA's driver: a GPU that can be compiled for, and nothing else."""

    def __init__(self, capability: int) -> None:
        self._capability = capability

    def get_current_device(self) -> int:
        return self._capability

    def get_current_stream(self, _device: int) -> int:
        return 0

    def get_current_target(self) -> Any:
        return GPUTarget("cuda", self._capability, 32)


class OnlyCompiled:
    """In the place of a kernel: a launch only compiles it."""

    def __init__(self, kernel: Any) -> None:
        self._kernel = kernel
        self.code: list[Any] = []

    def __getitem__(self, grid: Any) -> Any:
        return lambda *given, **named: self.code.append(self._kernel.run(*given, grid=grid, warmup=True, **named))


@pytest.fixture(autouse=True)
def compiling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every launch compile, keep what is compiled nowhere, and take Triton's driver back afterwards."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(triton.runtime.driver, "_active", None)
    for name in ("_forward", "_backward"):
        monkeypatch.setattr(fused, name, OnlyCompiled(getattr(fused, name)))


def compile_both(case: Case) -> list[Any]:
    """Compile the kernel's two directions as a layer launches them; return what was compiled."""
    triton.runtime.driver.set_active(Driver(case.capability))
    decay = torch.tensor(0.6) if case.learned else 0.6
    dynamics = Dynamics(0.75, decay, case.hard, case.surrogate, 0.83, case.detach)
    current = torch.zeros(1 if case.constant else case.steps, case.neurons, dtype=case.dtype)
    potentials, spikes, gradient = (torch.zeros(case.steps, case.neurons, dtype=case.dtype) for _ in range(3))
    count = torch.zeros((), dtype=torch.float64) if case.counted else None
    fused.forward(current, potentials, spikes, dynamics, count)
    fused.backward(potentials, spikes, gradient, dynamics, case.constant)
    return [kernel.code.pop() for kernel in (fused._forward, fused._backward)]


def check(cases: Iterable[Case]) -> int:
    """Compile for each case, and return how many there were."""
    done = 0
    for case in cases:
        try:
            for code in compile_both(case):
                assert f".target sm_{case.capability}" in code.asm["ptx"]
                assert len(code.asm["cubin"]) > 1000
        except Exception as error:
            raise AssertionError(f"{case}: {error}") from error
        done += 1
    return done


def test_the_kernel_compiles_for_gpus_in_every_pair_of_variants() -> None:
    assert 12 <= check(covering()) <= 40


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_the_kernel_compiles_for_gpus_in_every_variant() -> None:
    assert check(EVERY) == len(EVERY)


def test_a_dtype_that_the_kernel_cannot_take_does_not_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton has no atomic addition of 8-bit integers: what these tests would find."""
    case = EVERY[0]
    real = torch.zeros
    monkeypatch.setattr(
        torch, "zeros", lambda *shape, dtype: real(*shape, dtype=torch.int8 if dtype == torch.float64 else dtype)
    )
    with pytest.raises(Exception, match="atomic"):
        compile_both(case._replace(counted=True))
