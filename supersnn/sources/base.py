"""`RawImages`, the protocols of sources, and the data folder."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import torch
from torch import Tensor

Part = Literal["train", "test"]


@dataclass(frozen=True, eq=False)
class RawImages:
    """The images of one part, in the source's own order.

    pixels: uint8 [N, C, S, S], possibly memory-mapped.
    labels: int64 [N], positions in `classes`.
    """

    pixels: Tensor
    labels: Tensor
    classes: tuple[str, ...]

    def take(self, rows: Tensor) -> "RawImages":
        """Return the images at these rows, int64 [M], as a copy."""
        return RawImages(self.pixels[rows], self.labels[rows], self.classes)


@dataclass(frozen=True)
class SkippedFile:
    """A file or folder that is not used.

    name: relative to the data set's folder.
    reason: one of ``hidden``, ``other type``, ``linked folder``, ``empty folder``, ``not in a class folder``.
    """

    name: str
    reason: str


@dataclass(frozen=True)
class ClassContents:
    """What a part has of one class: the number of images, and for class folders their names and what is not used."""

    name: str
    images: int
    files: tuple[str, ...] = ()
    skipped: tuple[SkippedFile, ...] = ()


@dataclass(frozen=True)
class Contents:
    """What a part consists of, found without decoding images.

    skipped: what is not used and is in no class folder.
    """

    classes: tuple[ClassContents, ...]
    channels: int
    side: int
    skipped: tuple[SkippedFile, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the classes."""
        return tuple(one.name for one in self.classes)

    @property
    def images(self) -> int:
        """Number of images."""
        return sum(one.images for one in self.classes)

    @property
    def all_skipped(self) -> tuple[SkippedFile, ...]:
        """Everything that is not used, in class folders and outside of them."""
        return (*self.skipped, *(file for one in self.classes for file in one.skipped))


class Source(Protocol):
    """A data set; nothing is read before `read` is called."""

    def has_test(self) -> bool:
        """Return whether it has a test part of its own."""

    def read(self, part: Part) -> RawImages:
        """Return one part, after downloading it if necessary; without a test part, "train" is everything.

        Raises:
            UserError: the images cannot be downloaded or are not as expected; the text says which files to put where.
        """

    def inspect(self, part: Part) -> Contents:
        """Return what a part consists of; the same errors as `read`, except for damaged pixels of the user's files."""


class NamedSource(Source, Protocol):
    """A source with a name of its own and a fixed folder for its files."""

    @property
    def class_count(self) -> int:
        """Number of classes."""

    @property
    def folder(self) -> Path | None:
        """Folder of its files; None for a source without files."""

    def present(self) -> bool:
        """Return whether it can be read without a download."""

    def fetch(self) -> None:
        """Download missing files.

        Raises:
            UserError: a download fails; the text says which files to put where.
        """


def contents_of(images: RawImages) -> Contents:
    """Return what some images consist of."""
    counts = torch.bincount(images.labels, minlength=len(images.classes)).tolist()
    classes = tuple(ClassContents(name, count) for name, count in zip(images.classes, counts, strict=True))
    return Contents(classes, channels=images.pixels.shape[1], side=images.pixels.shape[2])


def data_root() -> Path:
    """Return the data folder: the environment variable SUPERSNN_DATA, or `data`."""
    return Path(os.environ.get("SUPERSNN_DATA") or "data")
