"""Operations on images against torchvision's, and policies as pure functions of (seed, view, index)."""

from typing import Any

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.autoaugment import _apply_op

from supersnn import augment_policies
from supersnn.augment import augment
from supersnn.config import AugmentConfig
from supersnn.image_ops import OPERATIONS, apply
from supersnn.randomness import draws, key


def images(count: int, channels: int = 3, side: int = 32) -> Tensor:
    """Return smooth images with noise, of various contrast."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, channels, 4, 4, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, side, mode="bilinear")
    noisy = smooth + 0.05 * torch.rand(count, channels, side, side, generator=generator)
    return (noisy / noisy.amax() * 200 + 20).to(torch.uint8)


AMOUNTS: dict[str, list[float]] = {
    "ShearX": [0.0, 0.21, -0.37],
    "ShearY": [0.0, 0.21, -0.37],
    "TranslateX": [0.0, 4.7, -9.0],
    "TranslateY": [0.0, 4.7, -9.0],
    "Rotate": [0.0, 15.0, -77.0],
    "Posterize": [8, 5, 2],
    "Solarize": [255.0, 127.5, 40.0],
    "AutoContrast": [0.0],
    "Equalize": [0.0],
    "Invert": [0.0],
    "Identity": [0.0],
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_are_torchvisions(name: str, channels: int) -> None:
    pixels = images(4, channels)
    for amount in AMOUNTS.get(name, [0.0, 0.5, -0.9]):
        if name == "Color" and channels == 1:
            expected = pixels
        else:
            expected = torch.stack(
                [_apply_op(image, name, amount, InterpolationMode.NEAREST, fill=None) for image in pixels]
            )
        found = OPERATIONS[name](pixels, torch.full((4,), amount, dtype=torch.float64))
        assert found.dtype == torch.uint8
        apart = (found.long() - expected.long()).abs()
        if name.startswith(("Shear", "Rotate")):  # at ties and borders another pixel is the nearest
            assert (apart > 2).float().mean() < 0.03
        else:
            assert apart.max() <= 1


def test_an_image_of_one_value_stays_finite() -> None:
    flat = torch.full((2, 3, 8, 8), 77, dtype=torch.uint8)
    for name in ("AutoContrast", "Equalize"):
        assert torch.equal(OPERATIONS[name](flat, torch.zeros(2)), flat)


def test_each_image_gets_its_own_operation() -> None:
    pixels, chosen = images(3), torch.tensor([0, 14, 4])
    found = apply(pixels, chosen, torch.tensor([0.0, 0.0, 0.5], dtype=torch.float64).mul(10))
    assert torch.equal(found[0], pixels[0])
    assert torch.equal(found[1], 255 - pixels[1])
    assert torch.equal(found[2, :, 5:], pixels[2, :, :-5])


@pytest.mark.parametrize("policy", ["trivial", "auto"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_policy_depends_on_the_image_and_the_view_only(policy: Any, channels: int) -> None:
    config = AugmentConfig(policy=policy, resized_crop=0.4, crop=2, flip=True)
    pixels, index = images(40, channels, side=16), torch.arange(40) * 3
    whole = augment(pixels, index, 3, 5, config)
    assert torch.equal(augment(pixels[7:9], index[7:9], 3, 5, config), whole[7:9])
    assert not torch.equal(augment(pixels, index, 4, 5, config), whole)
    assert (whole != pixels).flatten(1).any(1).float().mean() > 0.8


def test_earlier_augmentations_keep_their_views() -> None:
    plain, window = AugmentConfig(cutout=5), AugmentConfig(cutout=5, resized_crop=0.99)
    white = torch.full((30, 1, 16, 16), 255, dtype=torch.uint8)
    index = torch.arange(30)
    assert torch.equal(augment(white, index, 2, 1, plain), augment(white, index, 2, 1, window))


def recorded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tensor, Tensor]]:
    """Return the list of operations and amounts that policies will apply from now on, without applying them."""
    seen: list[tuple[Tensor, Tensor]] = []

    def record(pixels: Tensor, kind: Tensor, amount: Tensor) -> Tensor:
        seen.append((kind, amount))
        return pixels

    monkeypatch.setattr(augment_policies, "apply", record)
    return seen


def test_trivial_augment_draws_all_operations_equally(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = recorded(monkeypatch)
    count = 14000
    numbers = draws(key(3, 1), torch.arange(count), augment_policies.NUMBERS)
    augment_policies.trivial(torch.zeros(count, 1, 1, 1, dtype=torch.uint8), numbers)
    (kind, amount), *_ = seen
    names = list(OPERATIONS)
    counts = torch.bincount(kind, minlength=len(names)).tolist()
    assert counts.pop(names.index("Invert")) == 0
    assert chisquare(counts).pvalue > 0.001
    rotations = amount[kind == names.index("Rotate")]
    assert rotations.max() == 135 == -rotations.min()
    assert len(rotations.unique()) == 61


def test_auto_augment_has_the_published_policies(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = recorded(monkeypatch)
    count = 20000
    numbers = draws(key(3, 1), torch.arange(count), augment_policies.NUMBERS)
    augment_policies.auto(torch.zeros(count, 1, 32, 32, dtype=torch.uint8), numbers)
    names, policies = list(OPERATIONS), augment_policies._policies()
    assert len(policies) == 25
    for position, (kind, _) in enumerate(seen):
        shares = torch.bincount(kind, minlength=len(names)) / count
        for name in names[1:]:
            chances = [policy[position][1] for policy in policies if policy[position][0] == name]
            assert float(shares[names.index(name)]) == pytest.approx(sum(chances) / 25, abs=0.01)


def test_a_resized_window_is_bilinear() -> None:
    ramp = torch.arange(16, dtype=torch.float32).mul(16).expand(1, 1, 16, 16)
    pixels = torch.cat([ramp, ramp.transpose(2, 3)], 1).to(torch.uint8).repeat(50, 1, 1, 1)
    found = augment(pixels, torch.arange(50), 0, 0, AugmentConfig(resized_crop=0.2)).float()
    assert (found[:, 0].amax(2) - found[:, 0].amin(2)).lt(240).float().mean() > 0.8  # windows are smaller
    for channel, dim in ((0, 2), (1, 1)):  # a ramp stays a ramp
        slopes = found[:, channel].diff(dim=dim)
        assert (slopes.amax((1, 2)) - slopes.amin((1, 2))).median() <= 17
        assert slopes.min() >= 0
