"""Views of images on a GPU are those on a CPU, bit by bit, as are the labels of mixed images."""

from typing import Any

import pytest
import torch

from supersnn.data import TrainingData
from supersnn.views import augmented, targets
from tests.gpu.conftest import Configured

VIEWS: dict[str, dict[str, Any]] = {
    "none": {"crop": 0},
    "crop and flip": {"crop": 2, "flip": True},
    "cutout": {"crop": 0, "cutout": 5},
    "resized crop": {"resized_crop": 0.2},
    "trivial": {"policy": "trivial"},
    "auto": {"policy": "auto"},
    "mixup": {"mixup": 0.4},
    "cutmix": {"cutmix": 1.0, "flip": True},
    "all": {"crop": 2, "flip": True, "cutout": 4, "policy": "trivial", "mixup": 1.0, "cutmix": 0.7},
}


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_is_that_of_a_cpu(configured: Configured, data: TrainingData, device: torch.device, name: str) -> None:
    config = configured(**{f"dataset__augment__{key}": value for key, value in VIEWS[name].items()})
    rows = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))
    on_cpu = data.train.to("cpu")
    for view in (0, 1):
        found, expected = (augmented(images, rows, view, config) for images in (data.train, on_cpu))
        assert found.device.type == device.type
        assert torch.equal(found.cpu(), expected)
        assert (name == "none") == torch.equal(expected, on_cpu.pixels[rows])
        labels, expected = (targets(images, rows, view, config, 4) for images in (data.train, on_cpu))
        assert labels.device.type == device.type
        assert torch.equal(labels.cpu(), expected)
