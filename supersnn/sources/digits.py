"""Scikit-learn's digits: 1,797 grey images of 8×8 pixels, which come with the library.

They are read from the library's folder where that has them, because importing it takes a second in every process.
"""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import torch

from supersnn.errors import UserError
from supersnn.sources.base import Part, RawImages

_FILE = "datasets/data/digits.csv.gz"


class Digits:
    """The ten digits; the 17 levels of grey (0 … 16) are spread over 0 … 255."""

    class_count = 10
    folder: Path | None = None

    def has_test(self) -> bool:
        """It is one set, to be cut."""
        return False

    def present(self) -> bool:
        """Return whether the library is installed."""
        return _library() is not None

    def fetch(self) -> None:
        """Do nothing: it comes with the library.

        Raises:
            UserError: the library is not installed.
        """
        _require()

    def read(self, part: Part) -> RawImages:
        """Return all of it.

        Raises:
            UserError: the library is not installed.
        """
        grey, labels = _grey_and_labels(_require())
        pixels = (torch.from_numpy(grey) * (255 / 16)).round().to(torch.uint8).view(-1, 1, 8, 8)
        return RawImages(pixels, torch.from_numpy(labels).long(), tuple("0123456789"))


def _library() -> Path | None:
    found = importlib.util.find_spec("sklearn")
    return Path(found.origin).parent if found is not None and found.origin is not None else None


def _require() -> Path:
    library = _library()
    if library is None:
        raise UserError("dataset.name: the digits come with scikit-learn, which is not here: pip install scikit-learn")
    return library


def _grey_and_labels(library: Path) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the levels of grey [1797, 64], 0 … 16, and the labels [1797]."""
    if (library / _FILE).exists():
        rows = np.loadtxt(library / _FILE, delimiter=",")
        return rows[:, :-1], rows[:, -1]
    from sklearn.datasets import load_digits

    grey, labels = load_digits(return_X_y=True)
    return grey, labels
