"""Image files as 8-bit grey or RGB pixels, by the same rules in training, evaluation and prediction.

orientation   the EXIF orientation is applied
transparency  composited onto white, as on a page; onto black where white would leave nothing (a white shape)
depth         1 bit is black and white; of 16 bits the upper 8 are kept; 32 bits and floats are refused
colour        palette, CMYK and YCbCr become RGB; colour profiles and gamma are ignored
grey          files that are stored as grey have one channel; a palette counts as colour
animation     the first frame

A set of images has one channel if all files are grey, else three. Its images are square and of one size, or resized.
"""

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from supersnn.config import ResizeConfig
from supersnn.errors import UserError
from supersnn.files import printable
from supersnn.sources.base import RawImages

RULES = 2
"""Version of the rules: decoded copies of files are made again when it changes."""

_GREY = ("1", "L", "LA", "La")
_SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N", "I")  # `I`: 32 bits, in which Pillow returns 16-bit PGM files
_KNOWN = (*_GREY, *_SIXTEEN_BIT, "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr")
_ORIENTATION = 0x0112  # EXIF tag
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode(
    tree: Path,
    files: Sequence[tuple[str, int]],
    classes: tuple[str, ...],
    shape: tuple[int, int] | None = None,
    resize: ResizeConfig | None = None,
) -> RawImages:
    """Return the images in some files, in their order: grey if every file is grey, else RGB.

    Args:
        tree: folder that the names are relative to.
        files: name and label of each image; at least one.
        classes: names of the labels.
        shape: required channels and side; None: those of the first image.
        resize: to this side; None: they must be square and of one size.

    Raises:
        UserError: a file is not a readable image, is not square, or has another size; the text names the first.
    """
    side = _side(tree, files[0][0], shape, resize)
    try:
        pixels, grey = np.empty((len(files), 3, side, side), np.uint8), True
    except MemoryError as error:
        raise UserError(
            f"{printable(tree)}: {len(files)} images of {side}×{side} pixels do not fit into memory: scale them down"
        ) from error
    for row, (name, _) in enumerate(files):
        image = read_image(tree / name)
        if resize is not None:
            image = resized(tree / name, image, resize)
        grey = _checked(tree / name, image.size, image.mode == "L", side, shape) and grey
        array = np.asarray(image)
        pixels[row] = array if image.mode == "L" else array.transpose(2, 0, 1)
    channels = shape[0] if shape else 1 if grey else 3
    labels = torch.tensor([label for _, label in files])
    return RawImages(torch.from_numpy(pixels)[:, :channels], labels, classes)


def _side(tree: Path, first: str, shape: tuple[int, int] | None, resize: ResizeConfig | None) -> int:
    if resize is not None:
        return resize.side
    return shape[1] if shape else _header(tree / first)[0]


def resized(path: Path, image: Image.Image, resize: ResizeConfig) -> Image.Image:
    """Return an image as a square, by the rules of `ResizeConfig`.

    Raises:
        UserError: it cannot be resized, because it is too long and thin for its side.
    """
    size = (resize.side, resize.side)
    try:
        match resize.how:
            case "crop":
                return ImageOps.fit(image, size, Image.Resampling.BICUBIC)
            case "fit":
                return ImageOps.pad(image, size, Image.Resampling.BICUBIC)
            case "stretch":
                return image.resize(size, Image.Resampling.BICUBIC)
    except (ValueError, MemoryError, ZeroDivisionError) as error:
        raise UserError(
            f"{printable(path)}: cannot be resized to {resize.side}×{resize.side} pixels: {_one_line(error)}"
        ) from error


def check_headers(
    tree: Path, names: Sequence[str], shape: tuple[int, int] | None = None, resize: ResizeConfig | None = None
) -> tuple[int, int]:
    """Return the channels and the side that `decode` would return, from the files' headers alone.

    Raises:
        UserError: see `decode`; damage behind a header is not found.
    """
    side, grey = _side(tree, names[0], shape, resize), True
    for name in names:
        width, height, is_grey = _header(tree / name)
        if resize is not None:
            width = height = side
        grey = _checked(tree / name, (width, height), is_grey, side, shape) and grey
    return shape[0] if shape else 1 if grey else 3, side


def read_image(path: Path) -> Image.Image:
    """Return the image in a file in mode `L` (grey) or `RGB`, converted by the rules of this module.

    Raises:
        UserError: the file is not a readable image, or of a kind for which there is no rule.
    """
    with _opened(path) as image:
        image.load()
        return _converted(path, _upright(image))


def _header(path: Path) -> tuple[int, int, bool]:
    """Return width and height, and whether the file is grey, without decoding its pixels."""
    with _opened(path) as image:
        return image.width, image.height, image.mode in _GREY or image.mode in _SIXTEEN_BIT


def _checked(path: Path, size: tuple[int, int], grey: bool, side: int, shape: tuple[int, int] | None) -> bool:
    """Return `grey`, after an image of a set is found to be as the others."""
    if size != (side, side):
        raise UserError(
            f"{printable(path)}: {size[0]}×{size[1]} pixels; expected {side}×{side}: square images of one size, or "
            "dataset.resize"
        )
    if shape and shape[0] == 1 and not grey:
        raise UserError(f"{printable(path)}: colour image; expected grey, as the training images are")
    return grey


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Yield the image in a file, not decoded yet; whatever Pillow raises in the block becomes a `UserError`."""
    if not os.path.isfile(path):
        kind = "a broken link" if os.path.islink(path) else "not a file" if os.path.lexists(path) else "no such file"
        raise UserError(f"{printable(path)}: not a readable image: {kind}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(path) as image:
                if image.mode not in _KNOWN:
                    raise UserError(
                        f"{printable(path)}: pixel format {image.mode!r}; expected grey, RGB, CMYK or a palette, of at "
                        "most 16 bits a channel"
                    )
                yield image
        except UserError:
            raise
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise UserError(f"{printable(path)}: too many pixels: {_one_line(error)}: scale the image down") from error
        except Exception as error:  # decoders raise whatever a damaged file leads them to
            raise UserError(f"{printable(path)}: not a readable image: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    return printable(" ".join(str(error).split()))[:200] or type(error).__name__


def _upright(image: Image.Image) -> Image.Image:
    """Return the image as its EXIF orientation says; damaged EXIF says nothing."""
    try:
        orientation = image.getexif().get(_ORIENTATION)
    except Exception:
        return image
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def _converted(path: Path, image: Image.Image) -> Image.Image:
    mode = "L" if image.mode in (*_GREY, *_SIXTEEN_BIT) else "RGB"
    if image.mode in _SIXTEEN_BIT:
        image = _upper_bits(path, image)
    key = image.info.get("transparency")
    if image.mode == "RGB" and isinstance(key, tuple) and max(key) > 255:
        raise UserError(f"{printable(path)}: a transparent colour of 16 bits is not supported: save it with alpha")
    if not image.has_transparency_data:
        return image.convert(mode)
    layers = image.convert("RGBA")
    on_white = _on("white", layers)
    invisible = _is_constant(on_white) and not _is_constant(layers.getchannel("A"))
    return (_on("black", layers) if invisible else on_white).convert(mode)


def _on(background: str, layers: Image.Image) -> Image.Image:
    return Image.alpha_composite(Image.new("RGBA", layers.size, background), layers)


def _is_constant(image: Image.Image) -> bool:
    return bool((np.asarray(image) == np.asarray(image)[:1, :1]).all())


def _upper_bits(path: Path, image: Image.Image) -> Image.Image:
    """Return an image of 16-bit grey as `L`, or as `LA` where it has a transparent level."""
    values = np.asarray(image)
    low, high = int(values.min()), int(values.max())
    upper = (values >> 8).astype(np.uint8)
    if low < 0 or high > 65535:
        raise UserError(f"{printable(path)}: levels of grey from {low} to {high}; expected 16 bits, 0 to 65535")
    if low < high and (upper == upper[:1, :1]).all():
        raise UserError(
            f"{printable(path)}: 16-bit image with levels from {low} to {high} only, which its upper 8 bits do not "
            "distinguish: scale them to 0 … 65535"
        )
    key = image.info.get("transparency")
    if not isinstance(key, int):
        return Image.fromarray(upper)
    return Image.fromarray(np.stack([upper, np.where(values == key, 0, 255).astype(np.uint8)], axis=2))
