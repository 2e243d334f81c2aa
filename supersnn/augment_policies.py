"""Augmentation policies: which operation each image gets, and how much of it, from counter-based random numbers.

`trivial`: TrivialAugment (Müller & Hutter 2021), with the wide space of its table: one of 14 operations, at one of 31
evenly spaced strengths, of either sign where that makes sense. `auto`: AutoAugment (Cubuk et al. 2019) with the policy
that was found for CIFAR-10: one of 25 pairs of operations, each applied with its probability at one of 10 strengths.
"""

from functools import cache

import torch
from torch import Tensor

from supersnn.image_ops import OPERATIONS, apply
from supersnn.randomness import below

NUMBERS = 7
"""How many random numbers an image needs for a policy."""
_SIGNED = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast", "Sharpness")
_NAMES = list(OPERATIONS)
_TRIVIAL = [name for name in _NAMES if name != "Invert"]
_WIDE = {"ShearX": 0.99, "ShearY": 0.99, "TranslateX": 32.0, "TranslateY": 32.0, "Rotate": 135.0}


def trivial(pixels: Tensor, numbers: Tensor) -> Tensor:
    """Return images uint8 [B, C, H, W] after one operation each; `numbers` of `randomness.draws` [`NUMBERS`, B]."""
    chosen, level = below(numbers[0], len(_TRIVIAL)), below(numbers[1], 31)
    amounts = _table(tuple(tuple(_wide(name, step / 30) for step in range(31)) for name in _TRIVIAL)).to(pixels.device)
    places = torch.tensor([_NAMES.index(name) for name in _TRIVIAL], device=pixels.device)
    amount = _with_sign(amounts[chosen, level], places[chosen], numbers[2])
    return apply(pixels, places[chosen], amount)


def _wide(name: str, strength: float) -> float:
    """Return the amount of an operation at a strength from 0 to 1."""
    if name == "Posterize":
        return 8 - round(strength * 6)
    if name == "Solarize":
        return 255 * (1 - strength)
    return strength * _WIDE.get(name, 0.99)


def auto(pixels: Tensor, numbers: Tensor) -> Tensor:
    """Return images uint8 [B, C, H, W] after the two operations of a sub-policy each."""
    side = pixels.shape[-1]
    policies = _policies()
    chosen = below(numbers[0], len(policies))
    for position in (0, 1):
        steps = [policy[position] for policy in policies]
        kinds = torch.tensor([_NAMES.index(name) for name, _, _ in steps], device=pixels.device)
        chances = torch.tensor([round(chance * 2**32) for _, chance, _ in steps], device=pixels.device)
        amounts = torch.tensor(
            [_found(name, level, side) for name, _, level in steps], dtype=torch.float64, device=pixels.device
        )
        happens = numbers[1 + 3 * position] < chances[chosen]
        kind = torch.where(happens, kinds[chosen], 0)
        amount = _with_sign(amounts[chosen], kinds[chosen], numbers[2 + 3 * position])
        pixels = apply(pixels, kind, amount)
    return pixels


def _found(name: str, level: int | None, side: int) -> float:
    """Return the amount of an operation at a level from 0 to 9, for images of a side."""
    strength = (level or 0) / 9
    most = {"ShearX": 0.3, "ShearY": 0.3, "Rotate": 30.0}
    if name.startswith("Translate"):
        return strength * 150 / 331 * side
    if name == "Posterize":
        return 8 - round(strength * 4)
    if name == "Solarize":
        return 255 * (1 - strength)
    return strength * most.get(name, 0.9)


@cache
def _policies() -> list[tuple[tuple[str, float, int | None], ...]]:
    """Return the sub-policies, from torchvision's table of them."""
    from torchvision.transforms import AutoAugment, AutoAugmentPolicy

    return list(AutoAugment(AutoAugmentPolicy.CIFAR10).policies)


@cache
def _table(rows: tuple[tuple[float, ...], ...]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def _with_sign(amount: Tensor, kind: Tensor, number: Tensor) -> Tensor:
    """Return amounts with a random sign where the operation [B] has one."""
    signed = torch.tensor([name in _SIGNED for name in _NAMES], device=amount.device)[kind]
    return torch.where(signed & below(number, 2).bool(), -amount, amount)
