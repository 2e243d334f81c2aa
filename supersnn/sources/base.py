"""`RawImages`, the protocols of sources, and the data folder."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

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


class Source(Protocol):
    """A data set; nothing is read before `read` is called."""

    def has_test(self) -> bool:
        """Return whether it has a test part of its own."""

    def read(self, part: Part) -> RawImages:
        """Return one part, after downloading it if necessary; without a test part, "train" is everything.

        Raises:
            UserError: the images cannot be downloaded or are not as expected; the text says which files to put where.
        """


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


def data_root() -> Path:
    """Return the data folder: the environment variable SUPERSNN_DATA, or `data`."""
    return Path(os.environ.get("SUPERSNN_DATA") or "data")
