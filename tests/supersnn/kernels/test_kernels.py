import builtins
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from supersnn.kernels import choice, compiled, eager
from supersnn.kernels.dynamics import Dynamics
from supersnn.neurons import lif
from supersnn.surrogates import SURROGATES
from tests.support import kernel_contract as contract


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("constant", "in_place"), list(itertools.product((False, True), repeat=2)))
@pytest.mark.parametrize(
    ("kernel", "dynamics"),
    [(eager, d) for d in contract.every(list(SURROGATES))]
    + [(compiled, d) for d in contract.every(list(compiled.SURROGATES))],
    ids=lambda x: x.__name__.rpartition(".")[2] if isinstance(x, ModuleType) else f"{x.surrogate}-{x.hard}",
)
def test_a_kernel_is_the_slow_loop(kernel: ModuleType, dynamics: Dynamics, constant: bool, in_place: bool) -> None:
    contract.check(kernel, dynamics, constant, in_place)


def in_tritons_interpreter(script: str) -> str:
    """Run a script in a process whose kernels run in Triton's interpreter; return what it prints."""
    found = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert found.returncode == 0, found.stderr[-3000:]
    return found.stdout


def test_tritons_kernel_is_the_slow_loop_in_its_interpreter() -> None:
    """It runs on a GPU alone; Triton's interpreter, a process's first choice, shows on the CPU that it is right."""
    pytest.importorskip("triton")
    script = (
        "from tests.support import kernel_contract as contract\n"
        "from supersnn.kernels import fused\n"
        "for number, dynamics in enumerate(contract.every(list(contract.SLOPES))):\n"
        "    contract.check(fused, dynamics, number % 3 == 0, number % 2 == 0)\n"
        "print('checked', number + 1)\n"
    )
    assert in_tritons_interpreter(script).split() == ["checked", "32"]


@pytest.mark.parametrize("learned", [False, True])
def test_the_bits_do_not_depend_on_the_number_of_threads(learned: bool) -> None:
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        current = contract.drawn(2, 50_001, seed=0).requires_grad_()
        decay = torch.tensor(0.37, requires_grad=True)
        spikes = lif(current, 1.0, decay if learned else 0.37, "soft", "atan", 0.7, False)
        spikes.backward(contract.drawn(2, 50_001, seed=1))
        gradients = [one.grad for one in (current, decay) if one.grad is not None]
        assert len(gradients) == 1 + learned
        results.append([spikes.detach(), *gradients])
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_the_kernel_is_the_fastest_that_can_do_it() -> None:
    assert choice.kernel_for(torch.zeros(2, 3), "atan") is compiled
    assert choice.kernel_for(torch.zeros(2, 3, dtype=torch.float64), "atan") is compiled
    assert choice.kernel_for(torch.zeros(2, 3), "sigmoid") is eager
    assert choice.kernel_for(torch.zeros(2, 3, dtype=torch.bfloat16), "atan") is eager
    assert choice.kernel_for(torch.zeros(2, 3, device="meta"), "atan") is eager


def test_a_gpu_without_a_compiler_for_its_kernel_falls_back_with_a_warning() -> None:
    """Here Triton finds no GPU to launch on; without a compiler the launch fails as well."""
    pytest.importorskip("triton")
    script = (
        "import types, warnings, torch\n"
        "from supersnn.kernels import choice, eager\n"
        "like = types.SimpleNamespace(device=torch.device('cuda'), dtype=torch.float32)\n"
        "with warnings.catch_warnings(record=True) as caught:\n"
        "    warnings.simplefilter('always')\n"
        "    assert choice.kernel_for(like, 'atan') is eager\n"
        "    assert choice.kernel_for(like, 'triangle') is eager\n"
        "print(len(caught), choice.fused_fault() == str(caught[0].message).split('slower: ')[1])\n"
    )
    hidden = {**os.environ, "PATH": "/nowhere", "CUDA_VISIBLE_DEVICES": "", "CC": "/nowhere/cc"}
    found = subprocess.run(
        [sys.executable, "-c", script], env=hidden, capture_output=True, text=True, timeout=250, check=False
    )
    assert found.returncode == 0, found.stderr[-3000:]
    assert found.stdout.split() == ["1", "True"]


def test_the_kernel_on_a_gpu_is_the_fused_one_only_where_it_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    fused = pytest.importorskip("supersnn.kernels.fused")
    monkeypatch.setattr(choice, "fused_fault", lambda: None)

    def chosen(dtype: torch.dtype, surrogate: str) -> Any:
        return choice.kernel_for(SimpleNamespace(device=torch.device("cuda"), dtype=dtype), surrogate)  # type: ignore[arg-type]

    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        assert chosen(dtype, "sigmoid") is fused
    assert chosen(torch.float64, "sigmoid") is eager
    assert chosen(torch.float32, "of_my_own") is eager


def test_the_trial_launch_finds_a_kernel_that_computes_wrongly() -> None:
    pytest.importorskip("triton")
    script = (
        "import torch\n"
        "from supersnn.kernels import choice, fused\n"
        "print(choice.trial_launch(torch.device('cpu')))\n"
        "right = fused.forward\n"
        "fused.forward = lambda *given: (right(*given), given[2].fill_(1))\n"
        "print(choice.trial_launch(torch.device('cpu')))\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert found.returncode == 0, found.stderr[-3000:]
    first, second = found.stdout.splitlines()
    assert first == "None"
    assert second.startswith("it computes {'spikes': [[1.0, 1.0]")


@pytest.mark.parametrize("name", ["eager", "fused"])
def test_the_gradient_of_a_learned_decay_keeps_its_precision(name: str) -> None:
    """In half precision the sum over many neurons would lose three digits."""
    pytest.importorskip("triton")
    script = (
        "import torch\n"
        f"from supersnn.kernels import {name} as kernel\n"
        "from supersnn.kernels.dynamics import Dynamics\n"
        "from tests.support.kernel_contract import drawn\n"
        "dynamics = Dynamics(1.0, torch.tensor(0.5), False, 'atan', 1.0, True)\n"
        "current, upstream = drawn(3, 5000, seed=0).half(), drawn(3, 5000, seed=1).half()\n"
        "potentials, spikes, gradient = (torch.empty_like(current) for _ in range(3))\n"
        "kernel.forward(current, potentials, spikes, dynamics)\n"
        "found = kernel.backward(potentials, upstream, gradient, dynamics, False)\n"
        "reset = (potentials - spikes)[:-1].double()\n"
        "expected = float((gradient[1:].double() * reset).sum())\n"
        "assert found.dtype == torch.float32, found.dtype\n"
        "assert abs(float(found) - expected) < 2e-3 * abs(expected), (float(found), expected)\n"
    )
    in_tritons_interpreter(script)


def test_without_numba_the_loop_is_torchs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("numba"):
            raise ImportError(name)
        return real(name, *rest)

    choice._compiled.cache_clear()
    monkeypatch.delitem(sys.modules, "supersnn.kernels.compiled")
    monkeypatch.delattr(sys.modules["supersnn.kernels"], "compiled")
    monkeypatch.setattr(builtins, "__import__", without)
    try:
        assert choice.kernel_for(torch.zeros(2, 3), "atan") is eager
    finally:
        monkeypatch.undo()
        choice._compiled.cache_clear()


def test_a_folder_that_may_not_be_written_only_means_that_nothing_is_kept() -> None:
    """Neither the package's folder nor the user's can be written: each process then compiles for itself."""
    script = (
        "from numba.core.caching import CacheImpl\n"
        "CacheImpl._locator_classes = []\n"
        "import torch\n"
        "from supersnn.kernels.choice import kernel_for\n"
        "from supersnn.neurons import lif\n"
        "print(kernel_for(torch.ones(2, 3), 'atan').__name__, int(lif(torch.ones(2, 3)).sum()))\n"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=250, check=False)
    assert found.returncode == 0, found.stderr[-3000:]
    assert found.stdout.split() == ["supersnn.kernels.compiled", "6"]
