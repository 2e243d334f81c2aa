"""What the parts of the benchmark share: the device, sizes, images of noise, timing, and steps of a given network."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from supersnn.config import OptimizerConfig, TrainConfig
from supersnn.config_model import parse
from supersnn.data import Images, TrainingData
from supersnn.device_steps import UNCAPTURED, DeviceSteps
from supersnn.losses import TeacherOutputs
from supersnn.nested import unflatten
from supersnn.networks.base import ImageShape, Network
from supersnn.optimisation import optimiser, rate_tensor

PRECISION = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class NotCapturedError(RuntimeError):
    """A step that was to be measured in a CUDA graph could not be captured: it would be measured without one."""


@dataclass(frozen=True)
class Setting:
    """Device and sizes: those of the targets, or `small` ones that only show that everything runs.

    Attributes:
        device: that is measured.
        small: whether the sizes say nothing about speed.
        seconds: for each of the longer measurements.
    """

    device: torch.device
    small: bool
    seconds: float

    @property
    def precision(self) -> str:
        """The precision of half-precision rows: CPUs train in fp32 alone."""
        return "bf16" if self.device.type == "cuda" else "fp32"

    def data(self, images: int) -> TrainingData:
        """Return so many images of noise to train on, and a tenth to validate."""
        return noise(128 if self.small else images, 8 if self.small else 32).to(self.device)

    def synchronise(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


@dataclass(frozen=True)
class Noise:
    """Images of noise before they are on a device."""

    data: TrainingData

    def to(self, device: torch.device) -> TrainingData:
        """Return the images on a device."""
        d = self.data
        return TrainingData(
            d.train.to(device), d.validation.to(device), d.shape, d.classes, d.mean, d.std, d.fingerprint
        )


def noise(count: int, side: int) -> Noise:
    """Return images [3, side, side] of ten classes."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (count + count // 10, 3, side, side), generator=generator, dtype=torch.uint8)
    labels, index = torch.arange(len(pixels)) % 10, torch.arange(len(pixels))
    train = Images(pixels[:count], labels[:count], index[:count])
    validation = Images(pixels[count:], labels[count:], index[count:])
    classes = tuple("0123456789")
    return Noise(TrainingData(train, validation, ImageShape(3, side), classes, (0.5,) * 3, (0.29,) * 3, f"{count}"))


def described(architecture: str, **values: object) -> TrainConfig:
    """Return a student's training; double underscores stand for dots in the keys."""
    flat = {
        "dataset.name": "noise",
        "dataset.augment.crop": 4,
        "dataset.augment.flip": True,
        "dataset.augment.views": 2,
        "student.architecture": architecture,
        "student.time_steps": 2,
        "neuron.width": 2.0,
        "train.epochs": 1000,
        "optimizer.lr": 0.01,
        "optimizer.warmup": 0.0,
    }
    return parse(TrainConfig, unflatten(flat | {k.replace("__", "."): v for k, v in values.items()}), "benchmark")


def steps_of(network: Network, setting: Setting, precision: str, batch: int, graph: bool) -> Callable[[int], None]:
    """Return a function that trains a network for a number of steps on images of noise, and waits for the device.

    Losses are the label's alone. The first steps, and the capture, are done before this returns.

    Raises:
        NotCapturedError: `graph` is asked for on a GPU, and the step cannot be captured.
    """
    device, side = setting.device, 8 if setting.small else 32
    network.to(device).to(memory_format=torch.channels_last).train()
    rate = rate_tensor(device)
    optimizer = optimiser(OptimizerConfig(), list(network.parameters()), rate)

    def update(images: Tensor, labels: Tensor, outputs: TeacherOutputs | None) -> Mapping[str, Tensor]:
        del outputs
        with torch.autocast(device.type, PRECISION[precision], enabled=precision != "fp32"):
            logits = network(images).logits
        loss = functional.cross_entropy(logits.float().mean(0), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return {"total": loss.detach()}

    count = 4
    steps = DeviceSteps(update, {"rate": rate}, batch, count, graph)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch * count, 3, side, side, generator=generator).to(device)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = (torch.arange(batch * count) % 10).to(device)
    rates = torch.full((count,), 1e-4, dtype=torch.float64, device=device)
    stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def run(number: int) -> None:
        with torch.cuda.stream(stream):
            for _ in range(-(-number // count)):
                steps.run(images, labels, None, {"rate": rates})
        setting.synchronise()

    setting.synchronise()
    run(UNCAPTURED + count)
    if graph and device.type == "cuda" and not steps.captured:
        raise NotCapturedError("its step cannot be captured in a CUDA graph; the warning above says why")
    return run


def seconds_a_step(run: Callable[[int], None], setting: Setting, repeats: int = 5) -> float:
    """Return the median seconds of a step."""
    number = 4 if setting.small else 40
    found = []
    for _ in range(2 if setting.small else repeats):
        started = time.perf_counter()
        run(number)
        found.append((time.perf_counter() - started) / number)
    return sorted(found)[len(found) // 2]


def replace_neurons(network: nn.Module, kind: type[nn.Module], made: Callable[[], nn.Module]) -> None:
    """Replace every layer of one kind in a network."""
    for name, module in list(network.named_modules()):
        if isinstance(module, kind):
            parent, _, child = name.rpartition(".")
            setattr(network.get_submodule(parent), child, made())


def release(setting: Setting) -> None:
    """Give unused memory back between two parts."""
    if setting.device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
