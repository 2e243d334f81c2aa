"""Image files, decoded into one array: all of one size, square, and grey or RGB as the files decide."""

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
    """Return the images of some files, in their order: grey if every file is, else RGB.

    Args:
        tree: the folder that the names start from.
        files: each image's name and label; at least one.
        classes: the names of the labels.
        shape: the channels and side that these images must have; None: as the first one.

    Raises:
        UserError: names the first file that is no 8-bit image, is not square, or has another size.
    """
    side = shape[1] if shape else _opened(tree / files[0][0])[0].width
    pixels, grey = np.empty((len(files), 3, side, side), np.uint8), True
    for row, (name, _) in enumerate(files):
        path = tree / name
        image, colourless = _opened(path)
        if image.size != (side, side):
            found = f"{image.width}×{image.height}"
            raise UserError(f"{path}: {found} pixels; expected square images of one size, here {side}×{side}")
        pixels[row] = np.asarray(image).transpose(2, 0, 1)
        grey = grey and colourless
        if shape and shape[0] == 1 and not grey:
            raise UserError(f"{path}: a colour image; the training images are grey")
    channels = shape[0] if shape else 1 if grey else 3
    labels = torch.tensor([label for _, label in files])
    return RawImages(torch.from_numpy(pixels)[:, :channels], labels, classes)


def _opened(path: Path) -> tuple[Image.Image, bool]:
    """Return the image as RGB, and whether its file is grey."""
    try:
        with Image.open(path) as image:
            if image.mode not in _EIGHT_BIT:
                raise UserError(f"{path}: pixel format {image.mode!r}; expected 8 bits a channel, grey or RGB")
            return image.convert("RGB"), image.mode in _GREY
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise UserError(f"{path}: not a readable image: {error}") from error
