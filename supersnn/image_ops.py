"""Operations on batches of images with an amount for each: the vocabulary of TrivialAugment and AutoAugment.

Amounts have the units of the publications (Cubuk et al. 2019; Müller & Hutter 2021). All arithmetic on pixels is that
of integers, so that every device gives the same bits; results differ from Pillow's and torchvision's by rounding.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

_ONE = 1 << 16  # fixed-point unit


def _fixed(values: Tensor) -> Tensor:
    return (values * _ONE).round().long()


def _moved(pixels: Tensor, matrix: tuple[Tensor, Tensor, Tensor, Tensor], shift: tuple[Tensor, Tensor]) -> Tensor:
    """Return images whose pixel (y, x) is that at (yx·x + yy·y + down, xx·x + xy·y + right), black outside.

    Coordinates are relative to the image's centre, and rounded to the nearest pixel.

    Args:
        pixels: uint8 [B, C, H, W].
        matrix: xx, xy, yx, yy in fixed point, int64 [B].
        shift: right and down in fixed point, int64 [B].
    """
    height, width = pixels.shape[-2:]
    y = (2 * torch.arange(height, device=pixels.device) - height + 1).view(1, -1, 1)  # doubled: the centre is integer
    x = (2 * torch.arange(width, device=pixels.device) - width + 1).view(1, 1, -1)
    xx, xy, yx, yy = (part.view(-1, 1, 1) for part in matrix)
    right, down = (part.view(-1, 1, 1) for part in shift)
    source_x = (xx * x + xy * y + 2 * right + width * _ONE) >> 17
    source_y = (yx * x + yy * y + 2 * down + height * _ONE) >> 17
    inside = (source_x >= 0) & (source_x < width) & (source_y >= 0) & (source_y < height)
    position = (source_y.clamp(0, height - 1) * width + source_x.clamp(0, width - 1)).flatten(1).unsqueeze(1)
    moved = pixels.flatten(2).gather(2, position.expand(-1, pixels.shape[1], -1)).view(pixels.shape)
    return moved * inside.unsqueeze(1)


def _constants(amount: Tensor) -> tuple[Tensor, Tensor]:
    """Return 0 and 1 in fixed point, int64 [B]."""
    zero = torch.zeros_like(amount, dtype=torch.long)
    return zero, zero + _ONE


def shear_x(pixels: Tensor, amount: Tensor) -> Tensor:
    """Shift each row by `amount` times its distance from the first one."""
    zero, one = _constants(amount)
    height = pixels.shape[-2]
    return _moved(pixels, (one, _fixed(amount), zero, one), (_fixed(amount) * height // 2, zero))


def shear_y(pixels: Tensor, amount: Tensor) -> Tensor:
    """Shift each column by `amount` times its distance from the first one."""
    zero, one = _constants(amount)
    width = pixels.shape[-1]
    return _moved(pixels, (one, zero, _fixed(amount), one), (zero, _fixed(amount) * width // 2))


def translate_x(pixels: Tensor, amount: Tensor) -> Tensor:
    """Shift to the right by `amount` pixels, without a fraction."""
    zero, one = _constants(amount)
    return _moved(pixels, (one, zero, zero, one), (-amount.trunc().long() * _ONE, zero))


def translate_y(pixels: Tensor, amount: Tensor) -> Tensor:
    """Shift down by `amount` pixels, without a fraction."""
    zero, one = _constants(amount)
    return _moved(pixels, (one, zero, zero, one), (zero, -amount.trunc().long() * _ONE))


def rotate(pixels: Tensor, amount: Tensor) -> Tensor:
    """Rotate counter-clockwise by `amount` degrees around the centre."""
    zero, _ = _constants(amount)
    cosine, sine = _fixed(torch.deg2rad(amount).cos()), _fixed(torch.deg2rad(amount).sin())
    return _moved(pixels, (cosine, -sine, sine, cosine), (zero, zero))


def _blend(pixels: Tensor, other: Tensor, amount: Tensor) -> Tensor:
    """Return (1 + amount) · pixels - amount · other, clamped: an amount of -1 gives `other`, 0 the pixels."""
    share = _fixed(1 + amount).view(-1, 1, 1, 1)
    mixed = (share * pixels.long() + (_ONE - share) * other.long()) >> 16
    return mixed.clamp(0, 255).to(torch.uint8)


def _grey(pixels: Tensor) -> Tensor:
    """Return the luma of RGB images, of grey ones the image itself: uint8 [B, 1, H, W]."""
    if pixels.shape[1] != 3:
        return pixels[:, :1]
    red, green, blue = pixels.long().unbind(1)
    return ((19589 * red + 38470 * green + 7471 * blue) >> 16).to(torch.uint8).unsqueeze(1)  # 0.2989, 0.587, 0.114


def brightness(pixels: Tensor, amount: Tensor) -> Tensor:
    """Blend with black."""
    return _blend(pixels, torch.zeros_like(pixels), amount)


def color(pixels: Tensor, amount: Tensor) -> Tensor:
    """Blend with the grey image; grey images stay."""
    return _blend(pixels, _grey(pixels).expand_as(pixels), amount) if pixels.shape[1] == 3 else pixels


def contrast(pixels: Tensor, amount: Tensor) -> Tensor:
    """Blend with the mean of the grey image."""
    grey = _grey(pixels)
    mean = grey.long().flatten(1).sum(1) // grey[0].numel()
    return _blend(pixels, mean.view(-1, 1, 1, 1).expand_as(pixels), amount)


def sharpness(pixels: Tensor, amount: Tensor) -> Tensor:
    """Blend with the image smoothed by (1 1 1, 1 5 1, 1 1 1) / 13; the border stays."""
    if min(pixels.shape[-2:]) < 3:
        return pixels
    wide = pixels.long()
    rows = wide[..., :-2, :] + wide[..., 1:-1, :] + wide[..., 2:, :]
    sums = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:] + 4 * wide[..., 1:-1, 1:-1]
    smooth = pixels.clone()
    smooth[..., 1:-1, 1:-1] = ((2 * sums + 13) // 26).to(torch.uint8)
    return _blend(pixels, smooth, amount)


def posterize(pixels: Tensor, amount: Tensor) -> Tensor:
    """Keep the upper `amount` bits."""
    kept = (256 - 2 ** (8 - amount.long())).view(-1, 1, 1, 1)
    return (pixels.long() & kept).to(torch.uint8)


def solarize(pixels: Tensor, amount: Tensor) -> Tensor:
    """Invert the pixels from `amount` on."""
    return torch.where(pixels.long() >= amount.ceil().long().view(-1, 1, 1, 1), 255 - pixels, pixels)


def autocontrast(pixels: Tensor, _amount: Tensor) -> Tensor:
    """Stretch each channel to 0 … 255; one of a single value stays."""
    low, high = pixels.long().amin((2, 3), keepdim=True), pixels.long().amax((2, 3), keepdim=True)
    stretched = (pixels.long() - low) * 255 // (high - low).clamp(min=1)
    return torch.where(high > low, stretched, pixels.long()).to(torch.uint8)


def equalize(pixels: Tensor, _amount: Tensor) -> Tensor:
    """Equalise the histogram of each channel, as Pillow does."""
    channels = pixels.flatten(2).long()  # [B, C, N]
    histogram = torch.zeros(*channels.shape[:2], 256, dtype=torch.long, device=pixels.device)
    histogram.scatter_add_(2, channels, torch.ones_like(channels))
    last = histogram.gather(2, channels.amax(2, keepdim=True))
    step = (histogram.sum(2, keepdim=True) - last) // 255
    before = F.pad(histogram.cumsum(2), (1, -1))
    table = ((before + step // 2) // step.clamp(min=1)).clamp(0, 255)
    return torch.where(step > 0, table.gather(2, channels), channels).to(torch.uint8).view(pixels.shape)


def invert(pixels: Tensor, _amount: Tensor) -> Tensor:
    """Return the negative."""
    return 255 - pixels


def identity(pixels: Tensor, _amount: Tensor) -> Tensor:
    """Return the images."""
    return pixels


Operation = Callable[[Tensor, Tensor], Tensor]
OPERATIONS: dict[str, Operation] = {
    "Identity": identity,
    "ShearX": shear_x,
    "ShearY": shear_y,
    "TranslateX": translate_x,
    "TranslateY": translate_y,
    "Rotate": rotate,
    "Brightness": brightness,
    "Color": color,
    "Contrast": contrast,
    "Sharpness": sharpness,
    "Posterize": posterize,
    "Solarize": solarize,
    "AutoContrast": autocontrast,
    "Equalize": equalize,
    "Invert": invert,
}
"""Operations on uint8 [B, C, H, W] with amounts float64 [B], by their published names."""


def apply(pixels: Tensor, chosen: Tensor, amount: Tensor) -> Tensor:
    """Return images after an operation each: `chosen` int64 [B] counts in `OPERATIONS`, `amount` float64 [B]."""
    result = pixels.clone()
    for number, operation in enumerate(OPERATIONS.values()):
        rows = (chosen == number).nonzero().squeeze(1)
        if len(rows):
            result[rows] = operation(pixels[rows], amount[rows])
    return result
