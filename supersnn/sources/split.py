"""Stratified splits: every class keeps its share in both parts."""

import torch
from torch import Tensor

from supersnn.randomness import permutation


def stratified(labels: Tensor, count: int, *counters: int) -> tuple[Tensor, Tensor]:
    """Split off `count` rows at random, each class by its share to within one image.

    Args:
        labels: int64 [N].
        count: number of rows to split off, 0 … N.
        counters: seed of the choice.

    Returns:
        The remaining rows, int64 [N - count], and those split off, int64 [count], both ascending.
    """
    order = permutation(len(labels), *counters)
    order = order[torch.argsort(labels[order], stable=True)]  # class by class, random within each
    sizes = torch.bincount(labels)
    quota, rest = sizes * count // len(labels), sizes * count % len(labels)
    short = count - int(quota.sum())
    quota[torch.argsort(rest, descending=True, stable=True)[:short]] += 1  # largest remainders
    rank = torch.arange(len(labels)) - torch.repeat_interleave(sizes.cumsum(0) - sizes, sizes)
    split_off = rank < torch.repeat_interleave(quota, sizes)
    return order[~split_off].sort().values, order[split_off].sort().values
