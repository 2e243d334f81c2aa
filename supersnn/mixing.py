"""Mixtures of training images and their labels: mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019).

    mixup    image = λ · a + (1 - λ) · b          label = λ · label(a) + (1 - λ) · label(b)
    CutMix   b inside a rectangle of the share 1 - λ of the area, around a uniform centre, clipped at the borders; the
             label counts the pixels that are left of each

λ and the rectangle depend on (seed, view, index) alone; λ is drawn from Beta(α, α). The partner b is another training
image under the same view: that at the image's row in a random order of all, which depends on (seed, view) and their
number. So it is the same for all trainings on one split, which share a cache of a teacher's outputs for mixtures, and
not for those on another part of the same images. Everything here but the blending is computed on the host.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from supersnn.config import AugmentConfig
from supersnn.randomness import below, draws, key, permutation
from supersnn.streams import to_device

_STREAM = 0x6D6978  # separates these random numbers from those of single images


@dataclass(frozen=True)
class Mixture:
    """How the images of a batch are mixed; all of it is on the host.

    Attributes:
        partner: int64 [B], rows of the training images.
        share: int64 [B], the image's own share of λ, in 2⁻¹⁶; of mixup alone.
        box: int64 [4, B]: top, bottom, left and right of the partner's rectangle; empty where it is mixup.
    """

    partner: Tensor
    share: Tensor
    box: Tensor

    def images(self, own: Tensor, partners: Tensor) -> Tensor:
        """Return the mixtures uint8 [B, C, H, W] of two such batches."""
        height, width = own.shape[-2:]
        share = to_device(self.share, own.device).view(-1, 1, 1, 1)
        blended = (share * own.long() + (65536 - share) * partners.long() + 32768) >> 16
        top, bottom, left, right = (edge.view(-1, 1, 1) for edge in to_device(self.box, own.device))
        y = torch.arange(height, device=own.device).view(1, -1, 1)
        x = torch.arange(width, device=own.device).view(1, 1, -1)
        inside = ((y >= top) & (y < bottom) & (x >= left) & (x < right)).unsqueeze(1)
        return torch.where(inside, partners, blended.to(torch.uint8))

    def targets(self, own: Tensor, partners: Tensor, classes: int, pixels: int) -> Tensor:
        """Return the distributions float32 [B, K] of labels int64 [B] on the host, for images of so many pixels."""
        top, bottom, left, right = self.box
        covered = ((bottom - top) * (right - left)).double() / pixels
        share = (self.share.double() / 65536 * (1 - covered)).float().unsqueeze(1)
        first, second = (functional.one_hot(labels, classes).float() for labels in (own, partners))
        return share * first + (1 - share) * second


def is_mixed(config: AugmentConfig) -> bool:
    """Return whether images are mixed."""
    return config.mixup > 0 or config.cutmix > 0


def mixture(
    config: AugmentConfig, rows: Tensor, index: Tensor, view: int, seed: int, size: tuple[int, int, int]
) -> Mixture:
    """Return how images are mixed.

    With both alphas above 0 each image gets either of the two, with equal probability.

    Args:
        config: with `mixup` or `cutmix` above 0.
        rows: int64 [B], of the training images, on the host.
        index: int64 [B] on the host, their `Images.index`.
        view: number of the view.
        seed: of all views.
        size: number of training images, and the images' height and width.
    """
    count, height, width = size
    numbers = draws(key(seed, view, _STREAM), index, 4)
    cut = (
        below(numbers[0], 2).bool()
        if config.mixup and config.cutmix
        else torch.full_like(index, bool(config.cutmix)) > 0
    )
    uniform = (numbers[1].double() + 0.5) / 2**32
    own = torch.where(cut, _beta(uniform, config.cutmix), _beta(uniform, config.mixup))
    side = (1 - own).sqrt()
    half_y, half_x = (side * height / 2).round().long(), (side * width / 2).round().long()
    y, x = below(numbers[2], height), below(numbers[3], width)
    edges = (
        (y - half_y).clamp(min=0),
        (y + half_y).clamp(max=height),
        (x - half_x).clamp(min=0),
        (x + half_x).clamp(max=width),
    )
    box = torch.stack([torch.where(cut, edge, 0) for edge in edges])
    share = torch.where(cut, 65536, (own * 65536).round().long())
    return Mixture(_partners(count, seed, view)[rows], share, box)


@lru_cache(maxsize=4)  # of images and of labels, chunk by chunk
def _partners(count: int, seed: int, view: int) -> Tensor:
    """Return the partner's row of each of so many training images in a view, int64 [count]."""
    return permutation(count, seed, view, _STREAM)


def _beta(uniform: Tensor, alpha: float) -> Tensor:
    """Return quantiles of Beta(α, α); 1 for an α of 0."""
    if alpha == 0:
        return torch.ones_like(uniform)
    if alpha == 1:
        return uniform
    from scipy.special import betaincinv

    return torch.from_numpy(betaincinv(alpha, alpha, uniform.numpy()))
