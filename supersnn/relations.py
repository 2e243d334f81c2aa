"""Relations between the samples of a batch: vectors [B, D] → matrix [B, B].

Each is invariant to a positive scale of the vectors, which makes spikes and real-valued activations comparable. A
silent sample (all zeros; for `centred_cosine` one at the batch mean) has the relation 0 to every other and passes no
gradient; the same holds for a silent batch. To add a relation: write its function, cite its source, and enter it in
`RELATIONS` and in `config.RelationLossConfig`.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from supersnn import parts
from supersnn.errors import UserError

_TINY = 1e-12  # a squared norm below this share of the batch's mean squared norm is rounding, not signal


def unit(rows: Tensor, reference: Tensor) -> Tensor:
    """Return rows [B, D] scaled to length 1.

    A row that is negligible compared with the rows of `reference` [B, D] becomes zero, without gradient.
    """
    squared = rows.square().sum(1, keepdim=True)
    silent = squared <= _TINY * reference.detach().square().sum(1).mean()
    return rows * torch.where(silent, 0.0, squared.masked_fill(silent, 1.0).rsqrt())


def safe_rsqrt(squares: Tensor, least: Tensor) -> Tensor:
    """Return 1/√squares; values of at most `least` become zero, without gradient."""
    silent = squares <= least
    return torch.where(silent, 0.0, squares.masked_fill(silent, 1.0).rsqrt())


def cosine(vectors: Tensor) -> Tensor:
    """Return the cosine of each pair."""
    rows = unit(vectors, vectors)
    return rows @ rows.T


def centred_cosine(vectors: Tensor) -> Tensor:
    """Return the cosine of each pair after subtracting the batch mean: a correlation between samples.

    Centring as in linear CKA (Kornblith et al. 2019, "Similarity of neural network representations revisited") makes
    the relation invariant to the features' offset as well as to their scale.
    """
    rows = unit(vectors - vectors.mean(0), vectors)
    return rows @ rows.T


def gram(vectors: Tensor) -> Tensor:
    """Return a·aᵀ with rows scaled to length 1: Tung & Mori 2019, "Similarity-preserving knowledge distillation".

    The published loss also compares the diagonals, which are not constant here, and divides by B²; the term leaves the
    diagonal out, as of every relation, and divides by B·(B-1).
    """
    products = vectors @ vectors.T
    return unit(products, products)


def distance(vectors: Tensor) -> Tensor:
    """Return Euclidean distances over their mean: Park et al. 2019, "Relational knowledge distillation".

    The mean is over the B·(B-1) pairs of two samples. Two equal samples are at distance 0, without gradient.
    """
    rows = vectors - vectors.mean(0)  # leaves the distances unchanged, and reduces their rounding errors
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


def relation(name: str, arguments: Mapping[str, Any]) -> Callable[[Tensor], Tensor]:
    """Return a relation: one of `RELATIONS`, or the function that an import path names, with its arguments.

    Raises:
        UserError: it cannot be imported, or takes other arguments.
    """
    if name in RELATIONS:
        return RELATIONS[name]
    own = parts.function(name)
    parts.check_arguments(name, own, (), arguments, "loss.relation.arguments", positional=1)
    return partial(_checked, name, own, arguments)


def _checked(name: str, own: Callable[..., Tensor], arguments: Mapping[str, Any], vectors: Tensor) -> Tensor:
    with parts.raised_by(name):
        matrix = own(vectors, **arguments)
    batch = len(vectors)
    if not isinstance(matrix, Tensor) or matrix.shape != (batch, batch):
        found = list(matrix.shape) if isinstance(matrix, Tensor) else type(matrix).__name__
        raise UserError(f"{name!r}: expected a matrix [B, B] = [{batch}, {batch}] of vectors [B, D], found {found}")
    return matrix
