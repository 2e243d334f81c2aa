from collections.abc import Callable
from typing import Any

import pytest
import torch

from supersnn.config import TrainConfig
from supersnn.config_model import parse
from supersnn.data import Images, TrainingData
from supersnn.nested import unflatten
from supersnn.networks.base import ImageShape


def _bars(count: int, seed: int, first: int) -> Images:
    """Noisy 8x8 images of four classes: a bright bar at the top, bottom, left or right."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 90, (count, 1, 8, 8), generator=generator, dtype=torch.uint8)
    labels = torch.arange(count) % 4
    for image, label in zip(pixels, labels.tolist(), strict=True):
        (image if label < 2 else image.transpose(1, 2))[:, (0 if label % 2 else 6) : (2 if label % 2 else 8)] += 120
    return Images(pixels, labels, torch.arange(first, first + count))


@pytest.fixture(scope="session")
def bars() -> TrainingData:
    train, validation = _bars(72, seed=1, first=0), _bars(40, seed=2, first=72)
    grey = train.pixels.float() / 255
    mean, std = (float(grey.mean()),), (float(grey.std()),)
    return TrainingData(train, validation, ImageShape(1, 8), tuple("abcd"), mean, std, "0123456789abcdef")


@pytest.fixture(scope="session")
def configured() -> Callable[..., TrainConfig]:
    """A small training, with the values of some dotted keys (a double underscore for the dot) replaced."""

    def make(**values: Any) -> TrainConfig:
        flat = {
            "dataset.name": "digits",
            "dataset.augment.crop": 1,
            "student.architecture": "resnet8",
            "student.stem_stride": 2,
            "teacher.epochs": 2,
            "dataset.augment.views": 2,
            "train.epochs": 3,
            "train.batch_size": 16,
        }
        return parse(TrainConfig, unflatten(flat | {k.replace("__", "."): v for k, v in values.items()}), "test")

    return make
