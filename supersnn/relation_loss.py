"""The pairwise-relational term: which vectors of student and teacher are related, and how relations are compared.

For layer l with student maps [T, B, C, H, W] and teacher map [B, C', H', W'], a relation ρ (`supersnn.relations`,
`supersnn.rkd`) and a difference d (squared, or smooth L1 with β = 1):

    term = mean over layers and views of   mean over pairs i ≠ j of d(ρ(student)_ij, ρ(teacher)_ij)

The maps are pooled to `pool` x `pool`, or used as a whole (`full`, as similarity-preserving distillation is
published); the views are the student's mean over time, its concatenation over time, or each time step by itself.

Weights. With `scale: raw` the term is that formula, whose size depends on the relation: over pairs of 64 samples
`gram` is a hundredth of `distance`. With `scale: relative` each mean is divided by the same mean of a student that has
learned the teacher's mean relation and nothing else, d(mean of ρ(teacher), ρ(teacher)_ij): with squares the variance
of the teacher's relations, so that the term is the share of it that the student leaves unexplained. One weight then
means about the same for each relation, batch size, pooling and layer: by `benchmarks.relation_scale` the term's
gradient at the last map is 1.2 to 11 times the label loss's, and 0.005 to 1.2 times it at the raw scale.

Queue. With `queue: n` the samples of the last n batches are related to those of the current batch as well; their
vectors are those of the steps in which they were computed, without gradient. They are state, which a snapshot holds.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from supersnn.config import RelationLossConfig
from supersnn.layer_names import LAST, layer_names
from supersnn.relations import RELATIONS
from supersnn.relations import relation as relation_of
from supersnn.rkd import ANGLE_SHARE, angle
from supersnn.shards import Shard

_FULL_BATCH = Shard()

Relation = Callable[[Tensor], Tensor]


def pooled(features: Tensor, pool: int | str) -> Tensor:
    """Return features [T, B, C, H, W] averaged to maps of `pool` x `pool` (at most H x W), as vectors [T, B, D].

    With `full` they are not averaged.
    """
    if pool == "full":
        return features.flatten(2)
    side = min(int(pool), features.shape[-1])
    if side == 1:
        return features.mean((3, 4))
    maps = average_pooled(features.flatten(0, 1), side)
    return maps.flatten(1).unflatten(0, features.shape[:2])


def average_pooled(maps: Tensor, side: int) -> Tensor:
    """Return maps [N, C, H, W] averaged to `side` x `side`, over windows of torch's `adaptive_avg_pool2d`.

    That has no deterministic gradient on GPUs; there it is a mean where `side` divides a map's, and two products of
    matrices elsewhere.
    """
    if not maps.is_cuda:
        return functional.adaptive_avg_pool2d(maps, side)
    if all(length % side == 0 for length in maps.shape[2:]):
        return maps.unflatten(3, (side, -1)).unflatten(2, (side, -1)).mean((3, 5))
    return averaged_by_products(maps, side)


def averaged_by_products(maps: Tensor, side: int) -> Tensor:
    """Return maps [N, C, H, W] averaged to `side` x `side`: each window's mean over its columns, then over its rows."""
    rows, columns = (_window_weights(length, side, maps) for length in maps.shape[2:])
    return rows @ (maps @ columns.mT)


def _window_weights(length: int, side: int, like: Tensor) -> Tensor:
    """Return [side, length]: row i has 1/n in the n places from ⌊i · length / side⌋ to ⌈(i + 1) · length / side⌉.

    It is computed on the device of `like`, so that nothing waits and a graph can be captured.
    """
    window, place = (torch.arange(count, device=like.device) for count in (side, length))
    first, end = window * length // side, ((window + 1) * length + side - 1) // side
    inside = (place >= first.unsqueeze(1)) & (place < end.unsqueeze(1))
    return (inside / (end - first).unsqueeze(1)).to(like.dtype)


def relation_loss(config: RelationLossConfig, features: Tensor, teacher: Tensor, shard: Shard = _FULL_BATCH) -> Tensor:
    """Return the term of one layer, without a queue, of a shard's student maps [T, B, C, H, W], teacher vectors [B, D].

    With `shuffle` every sample gets another sample's teacher vector.
    """
    return RelationLoss(config)({LAST: features}, {LAST: teacher}, shard)


def weight_factor(schedule: str, progress: float) -> float:
    """Return the factor of the term's weight at a share of all steps, from 0 before the first one.

    `constant`: 1; `linear`: 1 - progress; `cosine`: (1 + cos(π · progress)) / 2.
    """
    if schedule == "linear":
        return 1 - progress
    return (1 + math.cos(math.pi * progress)) / 2 if schedule == "cosine" else 1.0


class RelationLoss:
    """The relational term of a training, with the queue of its past batches."""

    def __init__(self, config: RelationLossConfig) -> None:
        self.config = config
        self.layers = layer_names(config.layers)
        self._past: dict[str, tuple[Tensor, Tensor]] = {}

    def __call__(self, maps: Mapping[str, Tensor], teacher: Mapping[str, Tensor], shard: Shard = _FULL_BATCH) -> Tensor:
        """Return the full batch's term.

        Args:
            maps: the student's, [T, B, C, H, W] of a shard, by layer; more than this term needs are left alone.
            teacher: vectors [B, D] of the shard by layer.
            shard: whose maps they are.
        """
        terms = [self._of_layer(layer, maps[layer], teacher[layer], shard) for layer in self.layers]
        return terms[0] if len(terms) == 1 else torch.stack(terms).mean()

    def _of_layer(self, layer: str, features: Tensor, teacher: Tensor, shard: Shard) -> Tensor:
        vectors, teacher = shard.all_gather(pooled(features, self.config.pool), 1), shard.all_gather(teacher)
        if self.config.signal == "rates":
            steps = torch.arange(1, len(vectors) + 1, device=vectors.device)
            vectors = vectors.cumsum(0) / steps[:, None, None]
        if self.config.time == "mean":
            views = vectors.mean(0, keepdim=True)
        elif self.config.time == "concat":
            views = vectors.transpose(0, 1).flatten(1).unsqueeze(0)
        else:
            views = vectors
        if self.config.shuffle:
            teacher = teacher.roll(len(teacher) // 2, 0)
        batch = len(teacher)
        views, teacher = self._with_past(layer, views, teacher)
        parts = list(_parts(self.config.kind, self.config.arguments))
        targets = [relation(teacher) for _, relation in parts]
        if self.config.scale == "relative":  # the mean of the parts, so that a weight means the same
            whole = sum(share for share, _ in parts)
            parts = [(share / whole, relation) for share, relation in parts]
        found = []
        for view in views:
            of_parts = [
                share * self._between(relation(view), target, batch)
                for (share, relation), target in zip(parts, targets, strict=True)
            ]
            found.append(of_parts[0] if len(of_parts) == 1 else torch.stack(of_parts).sum())
        return torch.stack(found).mean()

    def _with_past(self, layer: str, views: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Return views [V, B + P, D] and teacher vectors [B + P, D] with the P past samples, and keep this batch."""
        if self.config.queue == 0:
            return views, teacher
        batch = len(teacher)
        if layer in self._past:
            past_views, past_teacher = self._past[layer]
            views, teacher = torch.cat([views, past_views], 1), torch.cat([teacher, past_teacher])
        most = self.config.queue * batch
        self._past[layer] = views[:, :most].detach(), teacher[:most].detach()
        return views, teacher

    def _between(self, matrix: Tensor, target: Tensor, batch: int) -> Tensor:
        """Return the mean difference of relations [M, M] (or [M, M, M]), M ≥ B, of the first B samples to others."""
        if matrix.dim() == 2 and len(matrix) == batch:
            mean = _mean_of_pairs
        elif matrix.dim() == 2:
            matrix, target, mean = matrix[:batch], target[:batch], _mean_of_pairs
        else:
            mean = _mean_of_triplets
        difference = _DIFFERENCES[self.config.difference]
        term = mean(difference(matrix, target))
        if self.config.scale == "raw":
            return term
        whole = mean(difference(mean(target).expand_as(target), target))
        return term / torch.where(whole > 0, whole, 1.0)

    def state(self) -> dict[str, Tensor]:
        """Return the queue, for a snapshot."""
        parts = {"student": 0, "teacher": 1}
        return {f"{layer}.{name}": past[index] for layer, past in self._past.items() for name, index in parts.items()}

    def load(self, state: Mapping[str, Tensor], device: torch.device) -> None:
        """Continue with the queue of a snapshot."""
        layers: Iterable[str] = dict.fromkeys(name.rpartition(".")[0] for name in state)
        self._past = {
            layer: (state[f"{layer}.student"].to(device), state[f"{layer}.teacher"].to(device)) for layer in layers
        }


def _parts(kind: str, arguments: Mapping[str, Any]) -> Iterable[tuple[float, Relation]]:
    """Yield the relations that a kind adds up, with their shares."""
    if kind == "rkd":
        return [(1.0, RELATIONS["distance"]), (ANGLE_SHARE, angle)]
    return [(1.0, angle if kind == "angle" else relation_of(kind, arguments))]


def _squared(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).square()


def _smooth_l1(a: Tensor, b: Tensor) -> Tensor:
    return functional.smooth_l1_loss(a, b, reduction="none")


_DIFFERENCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"squared": _squared, "smooth_l1": _smooth_l1}


def _mean_of_pairs(values: Tensor) -> Tensor:
    """Return the mean of values [B, M], M ≥ B, off their diagonal."""
    batch, columns = values.shape
    return (values.sum() - values.diagonal().sum()) / (batch * (columns - 1))


def _mean_of_triplets(values: Tensor) -> Tensor:
    """Return the mean of values [B, B, B] over triplets of three distinct samples; of two samples there is none."""
    batch = len(values)
    same = torch.eye(batch, dtype=torch.bool, device=values.device)
    twice = same.unsqueeze(0) | same.unsqueeze(1) | same.unsqueeze(2)
    return values.masked_fill(twice, 0.0).sum() / max(1, batch * (batch - 1) * (batch - 2))
