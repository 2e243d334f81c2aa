"""`ImageKind`: shape and class names of the images that a network classifies; other data sets are matched by name."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from supersnn.errors import UserError
from supersnn.networks.base import ImageShape


@dataclass(frozen=True)
class ImageKind:
    """The images that a network classifies: their shape, and the names of its classes in the order of its logits."""

    shape: ImageShape
    classes: tuple[str, ...]

    def match(self, name: str, classes: Sequence[str], shape: tuple[int, ...]) -> Tensor:
        """Return, for each class of a data set, its position in `self.classes`, int64 [K].

        Args:
            name: of the data set, for the error.
            classes: its class names.
            shape: of its images, (C, H, W).

        Raises:
            UserError: the class names are not the same, or the shape is another; names are never guessed.
        """
        if set(classes) != set(self.classes):
            raise UserError(
                f"{name}: its classes are {_shortened(classes)}; the student's are {_shortened(self.classes)}: "
                "expected the same names"
            )
        expected = (self.shape.channels, self.shape.side, self.shape.side)
        if tuple(shape) != expected:
            raise UserError(
                f"{name}: its images have {_size(shape)} (channels × height × width), expected {_size(expected)}"
            )
        return torch.tensor([self.classes.index(each) for each in classes])


def _shortened(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:20])
    return f"{shown}, … ({len(names)} in all)" if len(names) > 20 else shown


def _size(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))
