"""Scikit-learn's digits: 1,797 grey images of 8×8 pixels, which are part of the library.

The file is read directly where it exists, because importing scikit-learn takes a second in every process.
"""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import torch

from supersnn.errors import UserError
from supersnn.sources.base import Contents, Part, RawImages, contents_of

_FILE = "datasets/data/digits.csv.gz"


class Digits:
    """The ten digits, with the 17 levels of grey (0 … 16) scaled to 0 … 255."""

    class_count = 10
    folder: Path | None = None

    def has_test(self) -> bool:
        """Return False: it has no test part."""
        return False

    def present(self) -> bool:
        """Return whether scikit-learn is installed."""
        return _library() is not None

    def fetch(self) -> None:
        """Do nothing: the images are part of scikit-learn.

        Raises:
            UserError: scikit-learn is not installed.
        """
        _require()

    def read(self, part: Part) -> RawImages:
        """Return all images.

        Raises:
            UserError: scikit-learn is not installed.
        """
        del part  # "train": there is no other
        grey, labels = _grey_and_labels(_require())
        pixels = (torch.from_numpy(grey) * (255 / 16)).round().to(torch.uint8).view(-1, 1, 8, 8)
        return RawImages(pixels, torch.from_numpy(labels).long(), tuple("0123456789"))

    def inspect(self, part: Part) -> Contents:
        """Return what it consists of."""
        return contents_of(self.read(part))


def _library() -> Path | None:
    spec = importlib.util.find_spec("sklearn")
    return Path(spec.origin).parent if spec is not None and spec.origin is not None else None


def _require() -> Path:
    library = _library()
    if library is None:
        raise UserError(
            "dataset.name: 'digits' requires scikit-learn, which is not installed: pip install scikit-learn"
        )
    return library


def _grey_and_labels(library: Path) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the levels of grey [1797, 64], 0 … 16, and the labels [1797]."""
    if (library / _FILE).exists():
        rows = np.loadtxt(library / _FILE, delimiter=",")
        return rows[:, :-1], rows[:, -1]
    from sklearn.datasets import load_digits

    grey, labels = load_digits(return_X_y=True)
    return grey, labels
