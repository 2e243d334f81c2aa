"""Training data: train and validation split, normalisation constants and fingerprint. Test images are not included."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from supersnn.config import DatasetConfig
from supersnn.errors import UserError
from supersnn.networks.base import ImageShape
from supersnn.sources.base import RawImages
from supersnn.sources.registry import read
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


def training_data(config: DatasetConfig, device: torch.device | str = "cpu") -> TrainingData:
    """Return the train and validation split of a data set's training part, on the device.

    The data set is first reduced to `config.images` images, then the share `config.validation` is split off. Both
    choices are stratified and depend on `config.split_seed`. With `config.train_on: train+validation` the train split
    includes the validation images.

    Raises:
        UserError: the images cannot be read or downloaded, or are too few.
    """
    raw = read(config, "train")
    kept = torch.arange(len(raw.labels))
    if config.images is not None:
        if config.images > len(kept):
            raise UserError(f"dataset.images: {config.images} exceeds the {len(kept)} training images of {config.name}")
        _, kept = stratified(raw.labels, config.images, config.split_seed, _SUBSET)
    count = round(config.validation * len(kept))
    train_rows, validation_rows = stratified(raw.labels[kept], count, config.split_seed, _VALIDATION)
    absent = torch.bincount(raw.labels[kept[train_rows]], minlength=len(raw.classes)) == 0
    if count == 0 or absent.any():
        name = raw.classes[int(absent.nonzero()[0])] if count else ""
        problem = f"no training image of class {name!r}" if count else "the validation split empty"
        raise UserError(
            f"dataset.validation: {config.validation} of the {len(kept)} images of {config.name} leaves {problem}"
        )
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
