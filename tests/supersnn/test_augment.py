"""Augmentation: what a view is, that it can be replayed, that it does not depend on its batch."""

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor

from supersnn.augment import augment, normalise
from supersnn.config import AugmentConfig
from supersnn.randomness import below, draws, key

ALL = AugmentConfig(crop=3, flip=True, cutout=5)


def images(count: int, side: int = 8, channels: int = 3) -> Tensor:
    """Return images whose pixels are all above 0, so that black is only what augmentation made."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(1, 256, (count, channels, side, side), dtype=torch.uint8, generator=generator)


def slow_view(image: Tensor, index: int, view: int, seed: int, config: AugmentConfig) -> Tensor:
    """One image [C, H, W], pixel by pixel."""
    numbers = draws(key(seed, view), torch.tensor([index]), 5)
    height, width = image.shape[-2:]
    down = int(below(numbers[0], 2 * config.crop + 1)) - config.crop
    right = int(below(numbers[1], 2 * config.crop + 1)) - config.crop
    mirrored = config.flip and int(below(numbers[2], 2)) == 1
    centre_y, centre_x = int(below(numbers[3], height)), int(below(numbers[4], width))
    out = torch.zeros_like(image)
    for y in range(height):
        for x in range(width):
            source_y = y + down
            source_x = (width - 1 - x if mirrored else x) + right
            inside = 0 <= source_y < height and 0 <= source_x < width
            hole_y, hole_x = centre_y - config.cutout // 2, centre_x - config.cutout // 2
            in_hole = hole_y <= y < hole_y + config.cutout and hole_x <= x < hole_x + config.cutout
            if inside and not in_hole:
                out[:, y, x] = image[:, source_y, source_x]
    return out


@pytest.mark.parametrize(
    "config",
    [AugmentConfig(crop=2), AugmentConfig(flip=True), AugmentConfig(cutout=3), AugmentConfig(cutout=4), ALL],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_equals_the_slow_twin(config: AugmentConfig, channels: int) -> None:
    pixels, index = images(20, channels=channels), torch.arange(20) * 37
    fast = augment(pixels, index, 2, 9, config)
    slow = torch.stack([slow_view(p, int(i), 2, 9, config) for p, i in zip(pixels, index, strict=True)])
    assert fast.dtype == torch.uint8
    assert torch.equal(fast, slow)


def test_off_changes_nothing() -> None:
    pixels = images(4)
    assert augment(pixels, torch.arange(4), 7, 1, AugmentConfig()) is pixels


def test_the_input_is_left_alone() -> None:
    pixels = images(8)
    before = pixels.clone()
    augment(pixels, torch.arange(8), 0, 0, ALL)
    assert torch.equal(pixels, before)


def test_a_view_can_be_replayed_and_others_differ() -> None:
    pixels, index = images(50), torch.arange(50)
    first = augment(pixels, index, 1, 0, ALL)
    assert torch.equal(first, augment(pixels, index, 1, 0, ALL))
    assert not torch.equal(first, augment(pixels, index, 2, 0, ALL))
    assert not torch.equal(first, augment(pixels, index, 1, 1, ALL))
    assert not torch.equal(first, augment(pixels, index + 1, 1, 0, ALL))


def test_a_view_does_not_depend_on_batch_mates_or_order() -> None:
    pixels, index = images(40), torch.arange(40)
    whole = augment(pixels, index, 3, 0, ALL)
    chosen = torch.tensor([31, 4, 4, 17])
    assert torch.equal(augment(pixels[chosen], index[chosen], 3, 0, ALL), whole[chosen])


def test_memory_format_does_not_matter() -> None:
    pixels = images(10)
    last = pixels.contiguous(memory_format=torch.channels_last)
    assert torch.equal(augment(last, torch.arange(10), 0, 0, ALL), augment(pixels, torch.arange(10), 0, 0, ALL))


def test_crop_offsets_are_uniform() -> None:
    count, side, crop = 5000, 5, 1
    position = (torch.arange(side * side, dtype=torch.uint8) + 1).view(1, 1, side, side)
    views = augment(position.expand(count, -1, -1, -1), torch.arange(count), 0, 0, AugmentConfig(crop=crop))
    centre = views[:, 0, 2, 2].long()  # which pixel came to the middle: one of the 3×3 there
    counts = torch.bincount(centre, minlength=26)
    reached = counts[counts > 0]
    assert len(reached) == 9
    assert chisquare(reached).pvalue > 1e-3


def test_flip_happens_to_half() -> None:
    pixels = images(1).expand(4000, -1, -1, -1)
    views = augment(pixels, torch.arange(4000), 0, 0, AugmentConfig(flip=True))
    flipped = (views == pixels.flip(-1)).flatten(1).all(1)
    kept = (views == pixels).flatten(1).all(1)
    assert (flipped ^ kept).all()
    assert abs(flipped.float().mean() - 0.5) < 0.03


def test_cutout_makes_one_hole_for_all_channels_with_its_centre_anywhere() -> None:
    count, side = 6400, 8
    views = augment(images(1).expand(count, -1, -1, -1), torch.arange(count), 0, 0, AugmentConfig(cutout=3))
    black = views == 0
    assert torch.equal(black[:, 0], black[:, 2])
    area = black[:, 0].flatten(1).sum(1)
    assert set(area.tolist()) == {4, 6, 9}  # a corner, an edge, the inside
    whole = area == 9
    assert abs(whole.float().mean() - (6 / 8) ** 2) < 0.03
    rows = black[whole, 0].any(2).int().argmax(1)
    assert chisquare(torch.bincount(rows, minlength=side - 2)).pvalue > 1e-3


def test_normalise_is_its_formula() -> None:
    pixels = images(6)
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.1)
    expected = (pixels.double() / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    for given in (pixels, pixels.contiguous(memory_format=torch.channels_last)):
        result = normalise(given, mean, std)
        assert result.dtype == torch.float32
        assert result.stride() == given.stride()
        torch.testing.assert_close(result.double(), expected, rtol=0, atol=1e-5)
