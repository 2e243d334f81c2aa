"""The time and memory of a training, from a few steps on images made of noise: no data set and no teacher is needed."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from supersnn.config import TrainConfig
from supersnn.config_model import with_values
from supersnn.data import Images, TrainingData
from supersnn.losses import TeacherOutputs
from supersnn.networks.base import ImageShape, Network
from supersnn.networks.build import build
from supersnn.teacher_outputs import OutputKind, TeacherSource, as_teacher_outputs, compute_outputs, needed_outputs
from supersnn.teachers import recipe
from supersnn.training import train

FEW, MORE = 1, 2
"""Steps of the two trainings whose difference is the time of a step."""
FEW_ON_GPU, MORE_ON_GPU = 8, 40
"""The same on a GPU: the first steps are not replayed from a graph."""
EVALUATED = 32
"""Validation images of both."""


@dataclass(frozen=True)
class StepTime:
    """What was measured of a training.

    Attributes:
        step_s: seconds of a training step.
        image_s: seconds of evaluating one validation image.
        batch: images in a step.
        parameters: of the network.
        memory: bytes at the peak: of the device on a GPU, else of the whole process.
        device: that it ran on, ``cpu`` or ``cuda``.
    """

    step_s: float
    image_s: float
    batch: int
    parameters: int
    memory: int
    device: str

    def epoch_s(self, train_images: int, validation_images: int) -> float:
        """Return the seconds of an epoch with so many images."""
        steps = max(1, train_images // min(self.batch, max(train_images, 1)))
        return steps * self.step_s + validation_images * self.image_s


def measure_step(config: TrainConfig, shape: ImageShape, classes: int, device: str, seconds: float = 3.0) -> StepTime:
    """Train a few steps, and return how long one takes; the kernels are compiled before.

    Args:
        config: the training; with a teacher its outputs are noise of the right shape, and with views that are used
            once a network with its architecture runs in the loop.
        shape, classes: of the images.
        device: to train on.
        seconds: after which no further training is timed.

    Raises:
        UserError: the network cannot be built, or the device does not support the training.
    """
    batch = config.train.batch_size
    once = with_values(config, {"train.epochs": 1, "train.shards": 1})
    source = _noise_source(config, shape, classes, device)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    _epoch_seconds(with_values(once, {"train.batch_size": 2}), _noise(shape, classes, 2, 2).to(device), source, device)
    counts = (FEW_ON_GPU, MORE_ON_GPU) if device == "cuda" else (FEW, MORE)
    few, more = (
        _epoch_seconds(once, _noise(shape, classes, steps * batch, EVALUATED).to(device), source, device, seconds / 2)
        for steps in counts
    )
    network = build(config.student, config.neuron, shape, classes)
    step = max((more - few) / (counts[1] - counts[0]), few / 100)
    return StepTime(
        step_s=step,
        image_s=max(few - counts[0] * step, 0.0) / EVALUATED,
        batch=batch,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        memory=torch.cuda.max_memory_allocated() if device == "cuda" else _peak_memory(),
        device=device,
    )


def cache_bytes(
    config: TrainConfig, shape: ImageShape, classes: int, kinds: tuple[OutputKind, ...], images: int
) -> int:
    """Return the size of a teacher's cache: 16-bit floats for every image and view; 0 where none is kept."""
    views = config.dataset.augment.views
    if views == "off":
        return 0
    own = recipe(config)
    outputs = _shapes(lambda: build(own.student, own.neuron, shape, classes), shape, kinds)
    return 2 * images * views * sum(one.numel() for one in outputs.values())


def _epoch_seconds(
    config: TrainConfig, data: TrainingData, source: TeacherSource | None, device: str, seconds: float = 0.0
) -> float:
    """Return the seconds of the fastest of some trainings of one epoch; one, without time for more."""
    found: list[float] = []
    started = time.perf_counter()
    while not found or time.perf_counter() - started < seconds:
        (report,) = train(config, data, source, device=device)
        found.append(report.metrics["time/epoch_s"])
    return min(found)


def _noise(shape: ImageShape, classes: int, train_images: int, validation_images: int) -> TrainingData:
    generator = torch.Generator().manual_seed(0)

    def images(count: int) -> Images:
        pixels = torch.randint(0, 256, (count, shape.channels, shape.side, shape.side), generator=generator)
        return Images(pixels.to(torch.uint8), torch.arange(count) % classes, torch.arange(count))

    half = (0.5,) * shape.channels
    names = tuple(map(str, range(classes)))
    return TrainingData(images(train_images), images(validation_images), shape, names, half, half, "noise")


def _noise_source(config: TrainConfig, shape: ImageShape, classes: int, device: str) -> TeacherSource | None:
    """Return a source of noise with the shapes of the teacher's outputs, or the teacher itself, untrained."""
    kinds = needed_outputs(config.loss)
    if config.teacher.name is None:
        return None
    own = recipe(config)

    def network() -> Network:
        return build(own.student, own.neuron, shape, classes)

    if config.dataset.augment.views == "off":
        teacher = network().to(device).eval()

        def online(position: Tensor, view: int, images: Tensor) -> TeacherOutputs:
            del position, view
            return as_teacher_outputs(compute_outputs(teacher, images, kinds))

        return online
    outputs = _shapes(network, shape, kinds)

    def noise(position: Tensor, view: int, images: Tensor) -> TeacherOutputs:
        del view
        sizes = {kind: (len(position), *one.shape[1:]) for kind, one in outputs.items()}
        return as_teacher_outputs({kind: torch.rand(size, device=images.device) for kind, size in sizes.items()})

    return noise


def _shapes(
    network: Callable[[], Network], shape: ImageShape, kinds: tuple[OutputKind, ...]
) -> dict[OutputKind, Tensor]:
    """Return outputs [1, ...] of a teacher's network; without memory for its weights where it can be built so."""
    for device in ("meta", "cpu"):
        try:
            with torch.device(device), torch.random.fork_rng([]):
                return compute_outputs(network().eval(), torch.zeros(1, shape.channels, shape.side, shape.side), kinds)
        except Exception:
            if device == "cpu":
                raise
    raise AssertionError("one device or the other")


def _peak_memory() -> int:
    """Return the peak memory of this process in bytes."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
