"""The stratified cut: which rows are set aside, so that every class keeps its share."""

import torch
from torch import Tensor

from supersnn.randomness import permutation


def stratified(labels: Tensor, count: int, *counters: int) -> tuple[Tensor, Tensor]:
    """Set `count` of the rows aside, at random, each class by its share to within one image.

    Args:
        labels: int64 [N].
        count: how many rows are set aside, 0 … N.
        counters: what the choice depends on.

    Returns:
        The rows that stay, int64 [N - count], and those set aside, int64 [count], both ascending.
    """
    order = permutation(len(labels), *counters)
    order = order[torch.argsort(labels[order], stable=True)]  # class by class, random within each
    sizes = torch.bincount(labels)
    quota, rest = sizes * count // len(labels), sizes * count % len(labels)
    short = count - int(quota.sum())
    quota[torch.argsort(rest, descending=True, stable=True)[:short]] += 1  # largest remainders
    rank = torch.arange(len(labels)) - torch.repeat_interleave(sizes.cumsum(0) - sizes, sizes)
    aside = rank < torch.repeat_interleave(quota, sizes)
    return order[~aside].sort().values, order[aside].sort().values
