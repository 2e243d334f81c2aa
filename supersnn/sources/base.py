"""What every source of images gives, and the folder that images are kept under."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from torch import Tensor

Part = Literal["train", "test"]


@dataclass(frozen=True, eq=False)
class RawImages:
    """The images of one part, in the source's own order.

    pixels: uint8 [N, C, S, S], possibly mapped from a file.
    labels: int64 [N], positions in `classes`.
    """

    pixels: Tensor
    labels: Tensor
    classes: tuple[str, ...]

    def take(self, rows: Tensor) -> "RawImages":
        """Return the images at these rows, int64 [M], as a copy."""
        return RawImages(self.pixels[rows], self.labels[rows], self.classes)


class Source(Protocol):
    """A set of images; nothing is read before `read` is called."""

    def has_test(self) -> bool:
        """Whether it has a test part of its own."""

    def read(self, part: Part) -> RawImages:
        """Return one part, downloaded if need be; without a test part, "train" is everything.

        Raises:
            UserError: the images cannot be had, or are not what they should be: what to put where.
        """


class NamedSource(Source, Protocol):
    """A source with a name of its own, whose files have their place."""

    @property
    def class_count(self) -> int:
        """How many classes it has."""

    @property
    def folder(self) -> Path | None:
        """Where its files belong; None for a source that needs none."""

    def present(self) -> bool:
        """Whether it can be read without a download."""

    def fetch(self) -> None:
        """Download what is missing.

        Raises:
            UserError: it cannot be had: what to put where.
        """


def data_root() -> Path:
    """Return the folder that images are kept under: the environment's SUPERSNN_DATA, or `data`."""
    return Path(os.environ.get("SUPERSNN_DATA") or "data")
