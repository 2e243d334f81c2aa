"""The GPUs of this machine as torch sees them: names, what results on them depend on, and whether they are sound."""

import os

import torch

from supersnn.kernels.choice import trial_launch
from supersnn.numerics import matmul_precision
from supersnn.nvml import driver_version

_SIDE = 256


def ask_for_queues() -> None:
    """Ask CUDA for 32 hardware queues instead of 8, unless the environment says how many; before the first CUDA call.

    Streams that share a queue wait for each other, and a pack has up to 16 of them.
    """
    os.environ.setdefault("CUDA_DEVICE_MAX_CONNECTIONS", "32")


def gpu_names() -> list[str]:
    """Return the names of the GPUs, in torch's order; none where torch sees no GPU."""
    return [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]


def gpu_facts(device: torch.device | str) -> dict[str, str]:
    """Return what the results of a training on this device depend on beside the code; nothing for a CPU.

    The keys: ``gpu``, ``gpu_capability``, ``cuda``, ``cudnn``, ``matmul`` (`numerics.matmul_precision`) and ``driver``,
    this one where its library tells it.
    """
    device = torch.device(device)
    if device.type != "cuda":
        return {}
    properties = torch.cuda.get_device_properties(device)
    facts = {
        "gpu": properties.name,
        "gpu_capability": f"{properties.major}.{properties.minor}",
        "cuda": str(torch.version.cuda),
        "cudnn": str(torch.backends.cudnn.version()),
        "matmul": matmul_precision(device),
    }
    driver = driver_version()
    return facts | ({"driver": driver} if driver else {})


def gpu_fault(number: int) -> str | None:
    """Return what is wrong with a GPU, None where nothing is: known answers of torch and of the neurons' kernel."""
    device = torch.device("cuda", number)
    try:
        fault = product_fault(device)
    except RuntimeError as error:  # of CUDA, out of memory included
        fault = " ".join(str(error).split())[:300]
    if fault is None and (launch := trial_launch(device)):
        fault = f"the neurons' kernel does not run: {launch}"
    return None if fault is None else f"GPU {_number_on_machine(number)}: {fault}"


def _number_on_machine(number: int) -> str:
    """Return the number of one of the GPUs that this process sees as the machine counts them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    return visible[number] if number < len(visible) and visible[number] else str(number)


def product_fault(device: torch.device) -> str | None:
    """Return a text where a product of matrices with a known result is wrong on a device."""
    row = torch.arange(_SIDE, dtype=torch.float32, device=device) % 4
    product = row.unsqueeze(1).expand(_SIDE, _SIDE).contiguous() @ row.expand(_SIDE, _SIDE).contiguous()
    expected = _SIDE * row.unsqueeze(1) * row  # small integers, exact in every precision of the matrix units
    wrong = int((product != expected).sum())
    return f"a product of matrices has {wrong} wrong values of {_SIDE**2}" if wrong else None
