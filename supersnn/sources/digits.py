"""Scikit-learn's digits: 1,797 grey images of 8×8 pixels, which come with the library.

They are read from the library's folder, because importing it takes a second in every process.
"""

import importlib.util
from pathlib import Path

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
        return _file() is not None

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
        rows = np.loadtxt(_require(), delimiter=",")
        pixels = (torch.from_numpy(rows[:, :-1]) * (255 / 16)).round().to(torch.uint8).view(-1, 1, 8, 8)
        return RawImages(pixels, torch.from_numpy(rows[:, -1]).long(), tuple("0123456789"))


def _file() -> Path | None:
    found = importlib.util.find_spec("sklearn")
    if found is None or found.origin is None:
        return None
    path = Path(found.origin).parent / _FILE
    return path if path.exists() else None


def _require() -> Path:
    path = _file()
    if path is None:
        raise UserError("dataset.name: the digits come with scikit-learn, which is not here: pip install scikit-learn")
    return path
