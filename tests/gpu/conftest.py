"""What the checks share: the device, small images, configurations, and trainings that take turns."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from supersnn.config import TrainConfig
from supersnn.config_model import parse
from supersnn.data import Images, TrainingData
from supersnn.epoch_report import Snapshot
from supersnn.losses import TeacherOutputs
from supersnn.nested import unflatten
from supersnn.networks.base import ImageShape
from supersnn.records.metrics import OF_MACHINES
from supersnn.teacher_outputs import TeacherSource
from supersnn.training import train, train_in_parts

DEVICE = os.environ.get("SUPERSNN_GPU_CHECK", "cuda")
SIDE = 16

Configured = Callable[..., TrainConfig]
Course = list[tuple[dict[str, float], dict[str, Tensor]]]
"""The metrics and the tensors after each epoch."""

TAUGHT = {
    "teacher__name": "resnet8",
    "loss__relation__weight": 1.0,
    "loss__relation__pool": 2,
    "loss__logit__weight": 0.5,
    "loss__feature__weight": 0.1,
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all checks here; skip them where there is no GPU and none is pretended."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("gpu")
            if DEVICE == "cuda" and not torch.cuda.is_available():
                item.add_marker(pytest.mark.skip(reason="no GPU"))


@pytest.fixture(scope="session")
def device() -> torch.device:
    return torch.device(DEVICE)


@pytest.fixture
def cuda(device: torch.device) -> torch.device:
    if device.type != "cuda":
        pytest.skip("of a GPU alone")
    return device


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def bars(count: int, seed: int, first: int) -> Images:
    """Noisy colour images of four classes: a bright bar at the top, bottom, left or right."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 90, (count, 3, SIDE, SIDE), generator=generator, dtype=torch.uint8)
    labels = torch.arange(count) % 4
    for image, label in zip(pixels, labels.tolist(), strict=True):
        rows = slice(0, SIDE // 4) if label % 2 else slice(SIDE * 3 // 4, SIDE)
        (image if label < 2 else image.transpose(1, 2))[:, rows] += 120
    return Images(pixels, labels, torch.arange(first, first + count))


@pytest.fixture(scope="session")
def data(device: torch.device) -> TrainingData:
    train, validation = bars(272, seed=1, first=0), bars(300, seed=2, first=272)
    level = train.pixels.float().mean((0, 2, 3)) / 255
    std = train.pixels.float().std((0, 2, 3)) / 255
    moments = tuple(level.tolist()), tuple(std.tolist())
    return TrainingData(
        train.to(device), validation.to(device), ImageShape(3, SIDE), tuple("abcd"), *moments, "0123456789abcdef"
    )


@pytest.fixture(scope="session")
def configured() -> Configured:
    """A small training, with the values of some dotted keys (a double underscore for the dot) replaced."""

    def make(**values: Any) -> TrainConfig:
        flat = {
            "dataset.name": "digits",
            "dataset.augment.crop": 1,
            "dataset.augment.views": 2,
            "student.architecture": "resnet8",
            "neuron.width": 2.0,
            "teacher.epochs": 2,
            "train.epochs": 3,
            "train.batch_size": 16,
        }
        return parse(TrainConfig, unflatten(flat | {k.replace("__", "."): v for k, v in values.items()}), "test")

    return make


class Echo:
    """A teacher source that returns the pixels."""

    def __call__(self, position: Tensor, view: int, images: Tensor) -> TeacherOutputs:
        del position, view
        vectors = images.flatten(1)
        return TeacherOutputs({1: vectors, 2: vectors}, vectors[:, :4], images.repeat(1, 3, 1, 1))


def course(
    config: TrainConfig, data: TrainingData, device: torch.device, resume: Snapshot | None = None
) -> tuple[Course, list[Snapshot]]:
    """Train to the end; return the course of the training, and the snapshots after every epoch."""
    found: Course = []
    snapshots = []
    for report in train(config, data, Echo(), resume, device):
        snapshots.append(report.snapshot())
        found.append((without_time(report.metrics), snapshots[-1][0]))
    return found, snapshots


def taking_turns(
    configs: list[TrainConfig], data: TrainingData, device: torch.device, sources: list[TeacherSource]
) -> list[Course | Exception]:
    """Train several students in turns; return the course of each, or the exception that it ended in."""
    waiting = [
        (number, train_in_parts(config, data, source, None, device))
        for number, (config, source) in enumerate(zip(configs, sources, strict=True))
    ]
    found: list[Course | Exception] = [[] for _ in configs]
    while waiting:
        number, parts = waiting.pop(0)
        try:
            report = next(parts)
        except StopIteration:
            continue
        except RuntimeError as error:
            found[number] = error
            continue
        own = found[number]
        if report is not None and isinstance(own, list):
            own.append((without_time(report.metrics), report.snapshot()[0]))
        waiting.append((number, parts))
    return found


def without_time(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if not name.startswith(OF_MACHINES)}


def assert_same(one: object, other: Course) -> None:
    assert isinstance(one, list), one
    assert len(one) == len(other) > 0
    for (metrics, tensors), (others, other_tensors) in zip(one, other, strict=True):
        assert tensors.keys() == other_tensors.keys()
        apart = {
            name: float((tensors[name].double() - other_tensors[name].double()).abs().max())
            for name in tensors
            if not torch.equal(tensors[name], other_tensors[name])
        }
        assert not apart, apart
        assert metrics == others
