"""Relations: how the samples of a batch relate to each other, vectors [B, D] → matrix [B, B].

Each is unchanged when the vectors are multiplied by a positive constant: this is how the value scales of
spikes and of real-valued activations are unified. A silent sample (all zeros; for `centred_cosine` one at the
batch mean) relates to every other by 0 and passes no gradient, as does a batch that is silent throughout.
"""

from collections.abc import Callable

import torch
from torch import Tensor

_TINY = 1e-12  # a squared norm below this share of the batch's mean squared norm is rounding, not signal


def unit(rows: Tensor, reference: Tensor) -> Tensor:
    """Return rows [B, D] at length 1.

    A row that is next to nothing beside the rows of `reference` [B, D] becomes zero, without gradient.
    """
    squared = rows.square().sum(1, keepdim=True)
    silent = squared <= _TINY * reference.detach().square().sum(1).mean()
    return rows * torch.where(silent, 0.0, squared.masked_fill(silent, 1.0).rsqrt())


def cosine(vectors: Tensor) -> Tensor:
    """Return the cosine of each pair."""
    rows = unit(vectors, vectors)
    return rows @ rows.T


def centred_cosine(vectors: Tensor) -> Tensor:
    """Return the cosine of each pair after the batch's mean is subtracted: a correlation between samples.

    Centring as in linear CKA (Kornblith et al. 2019, "Similarity of neural network representations revisited"),
    so that the relation is free of the features' offset as well as of their scale.
    """
    rows = unit(vectors - vectors.mean(0), vectors)
    return rows @ rows.T


def gram(vectors: Tensor) -> Tensor:
    """Return a·aᵀ with each row at length 1: Tung & Mori 2019, "Similarity-preserving knowledge distillation"."""
    products = vectors @ vectors.T
    return unit(products, products)


def distance(vectors: Tensor) -> Tensor:
    """Return Euclidean distances over their mean: Park et al. 2019, "Relational knowledge distillation".

    The mean is over the B·(B-1) pairs of two samples. Two equal samples are at distance 0, without gradient.
    """
    rows = vectors - vectors.mean(0)  # distances stay the same, and their rounding error gets smaller
    squared = rows.square().sum(1)
    sums = squared[:, None] + squared
    squares = sums - 2 * rows @ rows.T
    apart = squares > 1e-6 * sums.detach()
    distances = torch.where(apart, squares.masked_fill(~apart, 1.0).sqrt(), 0.0)
    total = distances.sum()
    return distances * (len(rows) * (len(rows) - 1)) / torch.where(total > 0, total, 1.0)


RELATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "cosine": cosine,
    "centred_cosine": centred_cosine,
    "gram": gram,
    "distance": distance,
}
