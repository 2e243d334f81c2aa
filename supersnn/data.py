"""Training data: train and validation split, normalisation constants and fingerprint. Test images are not included."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from supersnn.config import DEFAULT_WEIGHTS, DatasetConfig, TrainConfig
from supersnn.config_model import with_values
from supersnn.errors import UserError
from supersnn.networks.base import ImageShape
from supersnn.sources.base import RawImages, SkippedFile
from supersnn.sources.registry import fetch, is_present, read, resolved
from supersnn.sources.registry import inspect as inspect_parts
from supersnn.sources.split import stratified

_SUBSET, _VALIDATION = 1, 2  # streams of the split seed


@dataclass(frozen=True, eq=False)
class Images:
    """Images of one part of a source.

    pixels: uint8 [N, C, H, W].
    labels: int64 [N].
    index: int64 [N], ascending: each image's position in the source's part. `augment` draws views by it, so that they
        do not depend on the split.
    """

    pixels: Tensor
    labels: Tensor
    index: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        """Return the number of images and their shape."""
        return f"Images({len(self)} of {'×'.join(map(str, self.pixels.shape[1:]))})"

    @cached_property
    def on_host(self) -> "Images":
        """The same images with labels and index on the host; the first use waits for the device, later ones do not."""
        return Images(self.pixels, self.labels.cpu(), self.index.cpu())

    def __getstate__(self) -> dict[str, Tensor]:
        """Leave out the copies on the host: the process that unpickles these images may put all tensors on a device."""
        return {name: value for name, value in vars(self).items() if name != "on_host"}

    def to(self, device: torch.device | str) -> "Images":
        """Return the same images on a device."""
        return Images(self.pixels.to(device), self.labels.to(device), self.index.to(device))


@dataclass(frozen=True, eq=False)
class TrainingData:
    """The images of a training.

    mean, std: of each channel over the train split, on the scale 0 … 1; all images are normalised with them.
    fingerprint: 16 hexadecimal digits that identify pixels, labels and order of both splits and the names of the
        classes. A network that was trained under another fingerprint may have seen these validation images.
    """

    train: Images
    validation: Images
    shape: ImageShape
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str

    def __repr__(self) -> str:
        """Return the sizes of the splits, the shape and the split's fingerprint."""
        size = f"{self.shape.channels}×{self.shape.side}×{self.shape.side}"
        parts = f"{len(self.train)} train, {len(self.validation)} validation"
        return f"TrainingData({parts}; {size}, {len(self.classes)} classes; split {self.fingerprint})"

    def to(self, device: torch.device | str) -> "TrainingData":
        """Return the same data on a device."""
        return replace(self, train=self.train.to(device), validation=self.validation.to(device))


def training_data(config: DatasetConfig, device: torch.device | str = "cpu") -> TrainingData:
    """Return the train and validation split of a data set's training part, on the device.

    The data set is first reduced to `config.images` images, then the share `config.validation` is split off. Both
    choices are stratified and depend on `config.split_seed`, the latter on `config.validation_seed` if that is set.
    With `config.train_on: train+validation` the train split includes the validation images.

    Raises:
        UserError: the images cannot be read or downloaded, or are too few.
    """
    raw = read(config, "train")
    kept, train_rows, validation_rows = _split(raw.labels, raw.classes, config)
    train = images_at(raw, kept[train_rows] if config.train_on == "train" else kept)
    validation = images_at(raw, kept[validation_rows])
    mean, std = _moments(train.pixels)
    return TrainingData(
        train=train.to(device),
        validation=validation.to(device),
        shape=ImageShape(channels=raw.pixels.shape[1], side=raw.pixels.shape[2]),
        classes=raw.classes,
        mean=mean,
        std=std,
        fingerprint=fingerprint(raw.classes, train, validation),
    )


@dataclass(frozen=True)
class DataSummary:
    """What a training with a data set would use, as `inspect` finds it.

    present: it can be read without a download.
    shape: None if it is not known, because of a fault or a download that is needed.
    classes: number of training images by class, before `dataset.images` reduces them.
    train, validation: sizes of the splits, as in `training_data`.
    test: size of the test part; None if it is published on its own and so stays closed.
    skipped: files of a folder that are not used.
    fault: the error that a training would end with, in one line; None if there is none.
    """

    name: str
    present: bool = True
    shape: ImageShape | None = None
    classes: Mapping[str, int] = field(default_factory=dict)
    train: int = 0
    validation: int = 0
    test: int | None = None
    skipped: tuple[SkippedFile, ...] = ()
    fault: str | None = None

    def __str__(self) -> str:
        """Return a line for people; of the skipped files it names the first ones."""
        if self.shape is None:
            return f"{self.name}: {self.fault or 'not downloaded yet'}"
        size = f"{self.shape.channels}×{self.shape.side}×{self.shape.side}"
        test = "" if self.test is None else f", {self.test} test"
        parts = [f"{len(self.classes)} classes, {size}, {self.train} train, {self.validation} validation{test} images"]
        if self.skipped:
            names = ", ".join(f"{file.name} ({file.reason})" for file in self.skipped[:5])
            parts.append(f"{len(self.skipped)} skipped: {names}{', …' if len(self.skipped) > 5 else ''}")
        return f"{self.name}: {'; '.join([*parts, *([self.fault] if self.fault else [])])}"


def with_absolute_path(config: TrainConfig) -> TrainConfig:
    """Return a training whose `folder:` and weights file hold in every working directory, as exports need it."""
    values: dict[str, str] = {"dataset.name": resolved(config.dataset.name)}
    if config.teacher.weights not in (None, DEFAULT_WEIGHTS):
        values["teacher.weights"] = os.path.abspath(str(config.teacher.weights))
    return with_values(config, values)


def inspect(config: DatasetConfig, download: bool = False) -> DataSummary:
    """Return what a training with a data set would use, without decoding the images of a folder.

    Of a folder the files' headers are read, those of the test part too, whose pixels stay closed.

    Args:
        config: the data set.
        download: fetch missing files, as a training does; without it a data set that is not there has no fault.
    """
    summary = DataSummary(config.name)
    try:
        if not is_present(config.name):
            if not download:
                return replace(summary, present=False)
            fetch(config.name)
        parts = inspect_parts(config)
        train = next(parts)
        assert train is not None, "only test parts stay closed"
        classes = {one.name: one.images for one in train.classes}
        shape = ImageShape(train.channels, train.side)
        summary = replace(summary, shape=shape, classes=classes, skipped=train.all_skipped)
        labels = torch.arange(len(classes)).repeat_interleave(torch.tensor(list(classes.values())))
        kept, train_rows, validation_rows = _split(labels, tuple(classes), config)
        on = kept if config.train_on == "train+validation" else train_rows
        summary = replace(summary, train=len(on), validation=len(validation_rows))
        test = next(parts)
        if test is not None:
            skipped = tuple(dict.fromkeys((*train.all_skipped, *test.all_skipped)))
            summary = replace(summary, test=test.images, skipped=skipped)
    except UserError as error:
        return replace(summary, fault=str(error))
    return summary


def _split(labels: Tensor, classes: Sequence[str], config: DatasetConfig) -> tuple[Tensor, Tensor, Tensor]:
    """Return the rows that `config.images` keeps, and the positions among them of the train and validation split."""
    kept = torch.arange(len(labels))
    if config.images is not None:
        if config.images > len(kept):
            raise UserError(f"dataset.images: {config.images} exceeds the {len(kept)} training images of {config.name}")
        _, kept = stratified(labels, config.images, config.split_seed, _SUBSET)
    count = round(config.validation * len(kept))
    seed = config.split_seed if config.validation_seed is None else config.validation_seed
    train_rows, validation_rows = stratified(labels[kept], count, seed, _VALIDATION)
    absent = torch.bincount(labels[kept[train_rows]], minlength=len(classes)) == 0
    if count == 0 or absent.any():
        name = classes[int(absent.nonzero()[0])] if count else ""
        problem = f"no training image of class {name!r}" if count else "the validation split empty"
        raise UserError(
            f"dataset.validation: {config.validation} of the {len(kept)} images of {config.name} leaves {problem}"
        )
    return kept, train_rows, validation_rows


def images_at(raw: RawImages, rows: Tensor) -> Images:
    """Return a part's images at these rows, int64 [N] ascending."""
    return Images(raw.pixels[rows], raw.labels[rows], rows)


def fingerprint(classes: Sequence[str], *splits: Images) -> str:
    """Return 16 hexadecimal digits of the SHA-256 of the splits' shapes, pixels and labels, and the classes."""
    sha = hashlib.sha256("\0".join(classes).encode())
    for images in splits:
        sha.update(str(tuple(images.pixels.shape)).encode())
        sha.update(images.pixels.cpu().contiguous().numpy().data)
        sha.update(images.labels.cpu().numpy().data)
    return sha.hexdigest()[:16]


def _moments(pixels: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return each channel's mean and standard deviation on the scale 0 … 1, exactly, from a histogram of its levels.

    A constant channel has the standard deviation 1.
    """
    level = torch.arange(256, dtype=torch.float64) / 255
    counts = torch.stack([torch.bincount(channel.flatten(), minlength=256) for channel in pixels.unbind(1)])
    share = counts.double() / counts.sum(1, keepdim=True)  # [C, 256]
    mean = share @ level
    std = (share * (level - mean.unsqueeze(1)) ** 2).sum(1).sqrt()
    std[(counts > 0).sum(1) == 1] = 1.0
    return tuple(mean.tolist()), tuple(std.tolist())
