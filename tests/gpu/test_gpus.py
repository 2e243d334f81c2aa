import os
import subprocess
import sys
from pathlib import Path

import torch

from supersnn.gpus import gpu_facts, gpu_fault, gpu_names, product_fault


def test_every_gpu_computes_known_results(cuda: torch.device) -> None:
    del cuda
    assert [gpu_fault(number) for number in range(len(gpu_names()))] == [None] * torch.cuda.device_count()


def test_a_known_product_of_matrices(device: torch.device) -> None:
    assert product_fault(device) is None


def test_what_results_depend_on_is_known(cuda: torch.device) -> None:
    facts = gpu_facts(cuda)
    assert facts["gpu"] == torch.cuda.get_device_name()
    assert {"gpu_capability", "cuda", "cudnn"} <= facts.keys()
    assert facts["matmul"] == "fp32"


def test_without_a_compiler_and_cached_kernels_a_spiking_layer_still_runs(cuda: torch.device, tmp_path: Path) -> None:
    """Triton compiles its launcher at first use; without a compiler the layer warns, and computes the same."""
    del cuda
    script = (
        "import warnings, torch\n"
        "from supersnn.neurons import lif\n"
        "from supersnn.kernels import choice\n"
        "current = torch.tensor([[0.5, 2.0], [0.75, 0.25]], device='cuda')\n"
        "with warnings.catch_warnings(record=True) as caught:\n"
        "    warnings.simplefilter('always')\n"
        "    spikes = lif(current)\n"
        "assert spikes.tolist() == [[0.0, 1.0], [1.0, 0.0]], spikes\n"
        "assert (choice.fused_fault() is None) == (not caught), (choice.fused_fault(), caught)\n"
    )
    hidden = {**os.environ, "PATH": "/nowhere", "CC": "/nowhere/cc", "TRITON_CACHE_DIR": str(tmp_path)}
    hidden["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    found = subprocess.run(
        [sys.executable, "-c", script], env=hidden, capture_output=True, text=True, timeout=120, check=False
    )
    assert found.returncode == 0, found.stderr[-2000:]


def test_deterministic_products_after_the_check_of_a_gpu(cuda: torch.device) -> None:
    """The check makes the first product of a process, at which cuBLAS takes its workspace."""
    del cuda
    script = (
        "import torch\n"
        "from supersnn.gpus import gpu_fault\n"
        "assert gpu_fault(0) is None\n"
        "from supersnn.numerics import numerics\n"
        "with numerics(torch.device('cuda'), deterministic=True):\n"
        "    ones = torch.ones(64, 64, device='cuda')\n"
        "    assert (ones @ ones == 64).all()\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "CUBLAS_WORKSPACE_CONFIG"}
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    found = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert found.returncode == 0, found.stderr[-2000:]
