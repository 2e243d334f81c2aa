"""Image files decoded into one array: square, of one size, grey or RGB."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from supersnn.errors import UserError
from supersnn.sources.base import RawImages

_GREY = ("1", "L", "LA")
_EIGHT_BIT = (*_GREY, "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")


def decode(
    tree: Path, files: Sequence[tuple[str, int]], classes: tuple[str, ...], shape: tuple[int, int] | None = None
) -> RawImages:
    """Return the images in some files, in their order: grey if every file is grey, else RGB.

    Args:
        tree: folder that the names are relative to.
        files: name and label of each image; at least one.
        classes: names of the labels.
        shape: required channels and side; None: those of the first image.

    Raises:
        UserError: a file is no 8-bit image, is not square, or has another size; the text names the first.
    """
    side = shape[1] if shape else _open(tree / files[0][0])[0].width
    pixels, grey = np.empty((len(files), 3, side, side), np.uint8), True
    for row, (name, _) in enumerate(files):
        path = tree / name
        image, is_grey = _open(path)
        if image.size != (side, side):
            raise UserError(
                f"{path}: {image.width}×{image.height} pixels; expected {side}×{side}: square images of one size"
            )
        pixels[row] = np.asarray(image).transpose(2, 0, 1)
        grey = grey and is_grey
        if shape and shape[0] == 1 and not grey:
            raise UserError(f"{path}: colour image; expected grey, as the training images are")
    channels = shape[0] if shape else 1 if grey else 3
    labels = torch.tensor([label for _, label in files])
    return RawImages(torch.from_numpy(pixels)[:, :channels], labels, classes)


def _open(path: Path) -> tuple[Image.Image, bool]:
    """Return the image as RGB, and whether its file is grey."""
    try:
        with Image.open(path) as image:
            if image.mode not in _EIGHT_BIT:
                raise UserError(f"{path}: pixel format {image.mode!r}; expected 8 bits a channel, grey or RGB")
            return image.convert("RGB"), image.mode in _GREY
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise UserError(f"{path}: not a readable image: {error}") from error
