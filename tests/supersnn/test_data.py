"""The cuts of a training's images, their measures and their fingerprint."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from supersnn.config import AugmentConfig, DatasetConfig, TrainConfig
from supersnn.data import fingerprint, inspect, training_data, with_absolute_path
from supersnn.errors import UserError
from supersnn.sources.registry import read

DIGITS = DatasetConfig(name="digits")


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with 20 images to train and 4 to test."""
    monkeypatch.setenv("SUPERSNN_DATA", str(tmp_path / "data"))
    for part, count in (("train", 10), ("test", 2)):
        for name in ("a", "b"):
            (tmp_path / "set" / part / name).mkdir(parents=True)
            for number in range(count):
                Image.new("L", (8, 8), number).save(tmp_path / "set" / part / name / f"{number}.png")
    return tmp_path / "set"


def test_the_cuts_are_parts_of_the_training_part_and_do_not_meet() -> None:
    data, raw = training_data(DIGITS), read(DIGITS, "train")
    total = len(raw.labels)
    assert len(data.validation) == round(0.15 * total)
    assert torch.equal(torch.cat([data.train.index, data.validation.index]).sort().values, torch.arange(total))
    for cut in (data.train, data.validation):
        assert torch.equal(cut.pixels, raw.pixels[cut.index])
        assert torch.equal(cut.labels, raw.labels[cut.index])
        assert torch.equal(cut.index, cut.index.sort().values)
        share = torch.bincount(raw.labels) * len(cut) / total
        assert ((torch.bincount(cut.labels) - share).abs() <= 1).all()
    assert (data.shape.channels, data.shape.side) == (1, 8)
    assert data.classes == tuple("0123456789")


def test_images_keeps_a_stratified_part() -> None:
    data, raw = training_data(DatasetConfig(name="digits", images=400)), read(DIGITS, "train")
    kept = torch.cat([data.train.index, data.validation.index])
    assert len(kept.unique()) == 400
    assert len(data.validation) == 60
    share = torch.bincount(raw.labels) * 400 / len(raw.labels)
    assert ((torch.bincount(raw.labels[kept]) - share).abs() <= 1).all()
    assert torch.equal(data.train.pixels, raw.pixels[data.train.index])
    other = training_data(DatasetConfig(name="digits", images=400, split_seed=1))
    assert set(kept.tolist()) != {*other.train.index.tolist(), *other.validation.index.tolist()}


def test_mean_and_deviation_are_those_of_the_train_cut() -> None:
    data = training_data(DIGITS)
    scaled = data.train.pixels.double() / 255
    assert data.mean == pytest.approx([scaled.mean().item()])
    assert data.std == pytest.approx([scaled.std(correction=0).item()])


def test_channels_are_measured_apart_and_an_even_one_stays_usable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUPERSNN_DATA", str(tmp_path / "data"))
    generator = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for number in range(10):
            array = generator.integers(0, 256, (4, 4, 3), dtype=np.uint8)
            array[..., 1] = 51
            Image.fromarray(array).save(tmp_path / "set" / name / f"{number}.png")
    data = training_data(DatasetConfig(name=f"folder:{tmp_path / 'set'}"))
    scaled = data.train.pixels.double() / 255
    assert data.mean == pytest.approx(scaled.mean((0, 2, 3)).tolist())
    assert data.mean[1] == pytest.approx(0.2)
    assert data.std[1] == 1.0
    assert data.std[0] == pytest.approx(scaled[:, 0].std(correction=0).item())


def test_the_same_description_gives_the_same_data() -> None:
    first, again = training_data(DIGITS), training_data(DIGITS)
    assert first.fingerprint == again.fingerprint
    assert torch.equal(first.train.index, again.train.index)


@pytest.mark.parametrize(
    "changed",
    [
        DatasetConfig(name="digits", split_seed=1),
        DatasetConfig(name="digits", validation=0.2),
        DatasetConfig(name="digits", test=0.3),
        DatasetConfig(name="digits", images=500),
        DatasetConfig(name="digits", images=500, split_seed=1),
    ],
)
def test_another_cut_has_another_fingerprint(changed: DatasetConfig) -> None:
    assert training_data(changed).fingerprint != training_data(DIGITS).fingerprint


def test_augmentation_does_not_change_the_fingerprint() -> None:
    varied = DatasetConfig(name="digits", augment=AugmentConfig(crop=2, flip=True, cutout=3))
    assert training_data(varied).fingerprint == training_data(DIGITS).fingerprint


def test_the_fingerprint_stands_for_every_pixel_label_and_place() -> None:
    data = training_data(DIGITS)
    cuts = data.train, data.validation
    assert fingerprint(data.classes, *cuts) == data.fingerprint
    marks = {data.fingerprint, fingerprint(data.classes[::-1], *cuts), fingerprint(data.classes, *cuts[::-1])}
    for change in ("pixel", "label", "order"):
        other = training_data(DIGITS)
        if change == "pixel":
            other.validation.pixels[3, 0, 4, 4] ^= 1
        elif change == "label":
            other.train.labels[5] = (other.train.labels[5] + 1) % 10
        else:
            other.train.pixels[[0, 1]] = other.train.pixels[[1, 0]]
        marks.add(fingerprint(other.classes, other.train, other.validation))
    assert len(marks) == 6


@pytest.mark.parametrize(
    ("config", "named"),
    [
        (DatasetConfig(name="digits", images=5000), "dataset.images: 5000"),
        (DatasetConfig(name="digits", images=20, validation=0.01), "leaves the validation split empty"),
        (DatasetConfig(name="digits", images=12, validation=0.9), "leaves no training image of class"),
    ],
)
def test_too_few_images_are_refused(config: DatasetConfig, named: str) -> None:
    with pytest.raises(UserError, match=named):
        training_data(config)


def test_a_final_training_sees_the_validation_images_too() -> None:
    usual = training_data(DIGITS)
    final = training_data(DIGITS.model_copy(update={"train_on": "train+validation"}))
    assert torch.equal(final.validation.index, usual.validation.index)
    both = torch.cat([usual.train.index, usual.validation.index]).sort().values
    assert torch.equal(final.train.index, both)
    assert final.fingerprint != usual.fingerprint
    assert final.mean != usual.mean


def test_inspecting_tells_what_training_would_use() -> None:
    for values in ({}, {"images": 300, "validation": 0.3}, {"train_on": "train+validation"}):
        config = DatasetConfig.model_validate({"name": "digits", **values})
        summary, data = inspect(config), training_data(config)
        assert summary.fault is None
        assert (summary.train, summary.validation) == (len(data.train), len(data.validation))
        assert (summary.shape, tuple(summary.classes)) == (data.shape, data.classes)
        assert (summary.test, sum(summary.classes.values())) == (359, 1438)
    assert str(inspect(DatasetConfig(name="digits"))) == (
        "digits: 10 classes, 1×8×8, 1222 train, 216 validation, 359 test images"
    )


def test_inspecting_a_folder_names_what_is_skipped(images: Path) -> None:
    (images / "train" / "a" / "x.gif").write_bytes(b"")
    summary = inspect(DatasetConfig(name=f"folder:{images}"))
    assert (summary.train, summary.validation, summary.test, summary.fault) == (17, 3, 4, None)
    assert summary.classes == {"a": 10, "b": 10}
    assert str(summary).endswith("4 test images; 1 skipped: train/a/x.gif (other type)")


def test_a_broken_test_part_is_known_before_training(images: Path) -> None:
    (images / "test" / "b" / "0.png").write_bytes(b"")
    summary = inspect(DatasetConfig(name=f"folder:{images}"))
    assert summary.train == 17
    assert summary.fault is not None
    assert "test/b/0.png: not a readable image" in summary.fault


@pytest.mark.parametrize(
    "values",
    [
        {"name": "digit"},
        {"name": "folder:/no/where"},
        {"name": "folder:" + "n" * 300},
        {"name": "digits", "images": 5000},
        {"name": "digits", "validation": 1e-9},
        {"name": "digits", "test": 1e-9},
        {"name": "digits", "images": 12, "validation": 0.9},
    ],
)
def test_inspecting_finds_the_fault_of_training(values: dict[str, Any]) -> None:
    config = DatasetConfig.model_validate(values)
    with pytest.raises(UserError) as refused:
        training_data(config)
    assert inspect(config).fault == str(refused.value)


def test_a_data_set_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPERSNN_DATA", str(tmp_path))
    summary = inspect(DatasetConfig(name="cifar10"))
    assert (summary.present, summary.fault, str(summary)) == (False, None, "cifar10: not downloaded yet")
    monkeypatch.setattr("urllib.request.urlopen", no_network)
    fault = inspect(DatasetConfig(name="cifar10"), download=True).fault
    assert fault is not None
    assert "cifar10 cannot be downloaded" in fault


def no_network(*_: object, **__: object) -> None:
    raise OSError("no network")


def test_paths_of_a_training_become_absolute(configured: Callable[..., TrainConfig], tmp_path: Path) -> None:
    relative = configured(dataset__name=f"folder:{os.path.relpath(tmp_path)}", teacher__weights="w.pt")
    absolute = with_absolute_path(relative)
    assert absolute.dataset.name == f"folder:{tmp_path}"
    assert absolute.teacher.weights == str(Path.cwd() / "w.pt")
    assert with_absolute_path(absolute) == absolute
    assert with_absolute_path(configured()) == configured()
