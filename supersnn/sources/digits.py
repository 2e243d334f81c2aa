"""Scikit-learn's digits: 1,797 grey images of 8×8 pixels, which come with the library."""

from pathlib import Path

import torch

from supersnn.sources.base import Part, RawImages


class Digits:
    """The ten digits; the 17 levels of grey (0 … 16) are spread over 0 … 255."""

    class_count = 10
    folder: Path | None = None

    def has_test(self) -> bool:
        """It is one set, to be cut."""
        return False

    def present(self) -> bool:
        """Return True: it lies inside the library."""
        return True

    def fetch(self) -> None:
        """Do nothing: nothing is missing."""

    def read(self, part: Part) -> RawImages:
        """Return all of it."""
        from sklearn.datasets import load_digits  # takes a second to import

        grey, labels = load_digits(return_X_y=True)
        pixels = (torch.from_numpy(grey) * (255 / 16)).round().to(torch.uint8).view(-1, 1, 8, 8)
        return RawImages(pixels, torch.from_numpy(labels).long(), tuple("0123456789"))
