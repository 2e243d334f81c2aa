"""Augmentation of training images: windows, flips, policies and cutout, drawn for each sample, and reproducible.

The result for a sample depends on (seed, view, index) only: not on its batch, its device, or earlier draws.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from supersnn.augment_policies import NUMBERS, auto, trivial
from supersnn.config import AugmentConfig
from supersnn.randomness import below, draws, key

_WINDOW = 4  # random numbers for a resized window


def augment(pixels: Tensor, index: Tensor, view: int, seed: int, config: AugmentConfig) -> Tensor:
    """Return one view of each image.

    In this order: `resized_crop` scales a window to the image's size, bilinearly; its share of the area is uniform
    in `resized_crop` … 1, and the logarithm of its sides' ratio uniform within ± log 4/3 (Szegedy et al. 2015);
    `crop` pads every side by that many black pixels and cuts a window of the image's size at an offset uniform in
    0 … 2·crop; `flip` mirrors left and right with probability 1/2; `policy` applies one or two operations
    (`supersnn.augment_policies`); `cutout` blackens a square of that side around a centre uniform over the image,
    clipped at its borders (DeVries & Taylor 2017). Black is the pixel value 0.

    Args:
        pixels: uint8 [B, C, H, W].
        index: int64 [B] on the same device: each image's `Images.index`.
        view: number of the view.
        seed: of all views.
        config: the augmentation; with everything off, `pixels` itself is returned.

    Returns:
        uint8 [B, C, H, W].
    """
    if not (config.crop or config.flip or config.cutout or config.resized_crop or config.policy != "none"):
        return pixels
    height, width = pixels.shape[-2:]
    later = config.resized_crop or config.policy != "none"
    numbers = draws(key(seed, view), index, 5 + (_WINDOW + NUMBERS if later else 0))
    down, right, mirror, centre_y, centre_x = numbers[:5]
    if config.resized_crop:
        pixels = _resized(pixels, *_window(numbers[5 : 5 + _WINDOW], config.resized_crop, height, width))
    if config.crop or config.flip:
        offset = below(down, 2 * config.crop + 1), below(right, 2 * config.crop + 1)
        pixels = _windows(pixels, *offset, below(mirror, 1 + config.flip).bool(), config.crop)
    if config.policy != "none":
        pixels = (trivial if config.policy == "trivial" else auto)(pixels, numbers[5 + _WINDOW :])
    if config.cutout:
        rows = _covered(below(centre_y, height), config.cutout, height)
        columns = _covered(below(centre_x, width), config.cutout, width)
        pixels = pixels * (1 - rows.unsqueeze(2) * columns.unsqueeze(1)).unsqueeze(1)
    return pixels


def _windows(pixels: Tensor, down: Tensor, right: Tensor, mirror: Tensor, padding: int) -> Tensor:
    """Cut a window out of each padded image, and mirror it where `mirror` is true.

    Args:
        pixels: uint8 [B, C, H, W].
        down: int64 [B], first row of the window in the padded image.
        right: int64 [B], first column.
        mirror: bool [B].
        padding: black pixels on every side.

    Returns:
        uint8 [B, C, H, W].
    """
    channels, height, width = pixels.shape[1:]
    rows = down.unsqueeze(1) + torch.arange(height, device=pixels.device)
    columns = right.unsqueeze(1) + torch.arange(width, device=pixels.device)
    columns = torch.where(mirror.unsqueeze(1), columns.flip(1), columns)
    positions = rows.unsqueeze(2) * (width + 2 * padding) + columns.unsqueeze(1)  # [B, H, W]
    padded = F.pad(pixels, (padding,) * 4).flatten(2)
    return padded.gather(2, positions.flatten(1).unsqueeze(1).expand(-1, channels, -1)).view(pixels.shape)


def _window(numbers: Tensor, least: float, height: int, width: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return top, left, height and width of windows, int64 [B] each, from four numbers [4, B] each."""
    share, ratio, down, right = (numbers.double() + 0.5) / 2**32
    area = (least + (1 - least) * share) * height * width
    root = ((2 * ratio - 1) * math.log(4 / 3) / 2).exp()
    rows = (area.sqrt() / root).round().long().clamp(1, height)
    columns = (area.sqrt() * root).round().long().clamp(1, width)
    return (down * (height - rows + 1)).long(), (right * (width - columns + 1)).long(), rows, columns


def _resized(pixels: Tensor, top: Tensor, left: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Scale a window of each image to the image's size, bilinearly, in integers of 1/256 of a pixel."""
    height, width = pixels.shape[-2:]
    y0, y1, in_y = _between(top, rows, height)
    x0, x1, in_x = _between(left, columns, width)
    flat = pixels.flatten(2).long()

    def at(y: Tensor, x: Tensor) -> Tensor:
        position = (y.unsqueeze(2) * width + x.unsqueeze(1)).flatten(1).unsqueeze(1)
        return flat.gather(2, position.expand(-1, pixels.shape[1], -1)).view(pixels.shape)

    in_x, in_y = in_x.unsqueeze(1).unsqueeze(1), in_y.unsqueeze(2).unsqueeze(1)
    upper = at(y0, x0) * (256 - in_x) + at(y0, x1) * in_x
    lower = at(y1, x0) * (256 - in_x) + at(y1, x1) * in_x
    return ((upper * (256 - in_y) + lower * in_y + 32768) >> 16).to(torch.uint8)


def _between(start: Tensor, size: Tensor, length: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the two positions between which each of `length` samples of a window lies, and how far, in 1/256."""
    samples = 2 * torch.arange(length, device=start.device) + 1
    place = (samples * size.unsqueeze(1) * 128) // length - 128
    place = start.unsqueeze(1) * 256 + place.clamp(min=0)
    first, last = place >> 8, (start + size - 1).unsqueeze(1)
    return torch.minimum(first, last), torch.minimum(first + 1, last), place & 255


def _covered(centre: Tensor, side: int, length: int) -> Tensor:
    """Return which of `length` positions are within `side` around each centre [B]: uint8 0 or 1, [B, length]."""
    from_start = torch.arange(length, device=centre.device) - centre.unsqueeze(1) + side // 2
    return ((from_start >= 0) & (from_start < side)).to(torch.uint8)


def normalise(pixels: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Return (pixels / 255 - mean) / std of each channel, in the memory format of `pixels`.

    Args:
        pixels: uint8 [B, C, H, W].
        mean: C means of the training images, on the scale 0 … 1.
        std: C standard deviations, on the same scale.

    Returns:
        float32 [B, C, H, W].
    """
    return Normaliser(mean, std, pixels.device)(pixels)


class Normaliser:
    """`normalise` with its constants on a device beforehand: to copy them there waits for the device."""

    def __init__(self, mean: Sequence[float], std: Sequence[float], device: torch.device) -> None:
        self._scale = torch.tensor([1 / (255 * s) for s in std], device=device).view(-1, 1, 1)
        self._shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)], device=device).view(-1, 1, 1)

    def __call__(self, pixels: Tensor) -> Tensor:
        """Return the normalised pixels; see `normalise`."""
        return torch.addcmul(self._shift, pixels.float(), self._scale)
