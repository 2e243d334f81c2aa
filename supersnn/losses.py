"""The terms of a student's loss, and their weighted sum: total = label + relation + logit + feature."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from supersnn.config import LabelLossConfig, LogitLossConfig, LossConfig, RelationLossConfig
from supersnn.networks.base import Output
from supersnn.relations import RELATIONS, unit
from supersnn.shards import Shard

_FULL_BATCH = Shard()


@dataclass(frozen=True)
class TeacherOutputs:
    """A teacher's outputs for a batch; those that no loss term needs may be missing.

    `vectors`: pooled features [B, D] by pooled side (1, 2 or 4); `logits` [B, K]; `features` [B, C, H, W].
    """

    vectors: Mapping[int, Tensor] = field(default_factory=dict)
    logits: Tensor | None = None
    features: Tensor | None = None


def pooled(features: Tensor, pool: int) -> Tensor:
    """Return features [T, B, C, H, W] averaged to maps of `pool` x `pool` (at most H x W), as vectors [T, B, D]."""
    side = min(pool, features.shape[-1])
    if side == 1:
        return features.mean((3, 4))
    maps = average_pooled(features.flatten(0, 1), side)
    return maps.flatten(1).unflatten(0, features.shape[:2])


def average_pooled(maps: Tensor, side: int) -> Tensor:
    """Return maps [N, C, H, W] averaged to `side` x `side`.

    torch's own pooling has no deterministic gradient on GPUs; where `side` divides a map's, a mean has.
    """
    if maps.is_cuda and all(length % side == 0 for length in maps.shape[2:]):
        return maps.unflatten(3, (side, -1)).unflatten(2, (side, -1)).mean((3, 5))
    return functional.adaptive_avg_pool2d(maps, side)


def label_loss(config: LabelLossConfig, logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy of labels [B] with logits [T, B, K]: of their mean over time, or of every step.

    The mean of each step's cross-entropy: Deng et al. 2022, "Temporal efficient training of spiking neural
    network via gradient re-weighting".
    """
    if config.kind == "mean":
        return functional.cross_entropy(logits.mean(0), labels, label_smoothing=config.smoothing)
    return functional.cross_entropy(logits.flatten(0, 1), labels.repeat(len(logits)), label_smoothing=config.smoothing)


def logit_loss(config: LogitLossConfig, logits: Tensor, teacher: Tensor) -> Tensor:
    """Return τ² · KL(softmax(teacher/τ) ‖ softmax(student/τ)), mean over the batch.

    Hinton et al. 2015, "Distilling the knowledge in a neural network". `logits` [T, B, K] are averaged
    over time; `teacher` has the shape [B, K].
    """
    tau = config.temperature
    student = functional.log_softmax(logits.mean(0) / tau, dim=1)
    target = functional.log_softmax(teacher / tau, dim=1)
    return tau**2 * functional.kl_div(student, target, reduction="batchmean", log_target=True)


def relation_loss(config: RelationLossConfig, features: Tensor, teacher: Tensor, shard: Shard = _FULL_BATCH) -> Tensor:
    """Return the pairwise-relational term of a shard's student maps [T, B, C, H, W] and teacher vectors [B, D].

    With a relation ρ it is the mean of (ρ(student) - ρ(teacher))² over the B·(B-1) pairs of two samples of the full
    batch. The student's vectors are averaged over time (`mean`), concatenated to [B, T·D] (`concat`), or compared step
    by step, with the mean of the steps' terms (`per_step`). With `shuffle` every sample gets another sample's teacher
    vector.
    """
    relation = RELATIONS[config.kind]
    vectors, teacher = shard.all_gather(pooled(features, config.pool), 1), shard.all_gather(teacher)
    if config.time == "mean":
        views = vectors.mean(0, keepdim=True)
    elif config.time == "concat":
        views = vectors.transpose(0, 1).flatten(1).unsqueeze(0)
    else:
        views = vectors
    if config.shuffle:
        teacher = teacher.roll(len(teacher) // 2, 0)
    target = relation(teacher)
    return torch.stack([_between_pairs(relation(view), target) for view in views]).mean()


def _between_pairs(matrix: Tensor, target: Tensor) -> Tensor:
    """Return the mean squared difference of two matrices [B, B] off their diagonals."""
    batch = len(matrix)
    squares = (matrix - target).square()
    return (squares.sum() - squares.diagonal().sum()) / (batch * (batch - 1))


class FeatureLoss(nn.Module):
    """The feature term: distance of a learned 1x1 projection of the student's firing rates to the teacher's map.

    Both maps are average-pooled to the smaller side of the two, flattened and scaled to length 1 per sample. The term
    is their mean squared distance over the batch: 0 for the same direction, at most 4. A silent sample stays zero and
    passes no gradient. The projection is drawn from its own generator, so that a student starts from the same weights
    with it and without it.
    """

    def __init__(self, student_channels: int, teacher_channels: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        weight = torch.empty(teacher_channels, student_channels, 1, 1)
        self.weight = nn.Parameter(nn.init.kaiming_normal_(weight, generator=generator))

    def forward(self, features: Tensor, teacher: Tensor, shard: Shard = _FULL_BATCH) -> Tensor:
        """Return the full batch's term from a shard's student maps [T, B, C, H, W], teacher maps [B, C', H', W']."""
        rate = features.mean(0)
        side = min(rate.shape[-1], teacher.shape[-1])
        projected = functional.conv2d(average_pooled(rate, side), self.weight)
        target = average_pooled(teacher, side)
        student, expected = shard.all_gather(projected.flatten(1)), shard.all_gather(target.flatten(1))
        return (unit(student, student) - unit(expected, expected)).square().sum(1).mean()


def total(
    config: LossConfig,
    output: Output,
    labels: Tensor,
    outputs: TeacherOutputs | None = None,
    feature_loss: FeatureLoss | None = None,
    shard: Shard = _FULL_BATCH,
) -> dict[str, Tensor]:
    """Return the unweighted terms with a weight above zero, and under ``total`` the weighted sum.

    The keys ``label`` and ``total`` are always present. The arguments belong to one `shard` of the batch, the terms to
    the full batch.

    Raises:
        ValueError: the teacher outputs or the projection that a term needs are missing.
    """
    logits = shard.all_gather(output.logits, 1)
    terms = {"label": label_loss(config.label, logits, shard.all_gather(labels))}
    teacher = outputs or TeacherOutputs()
    if config.relation.weight > 0:
        vectors = _required(teacher.vectors.get(config.relation.pool), "relation")
        terms["relation"] = relation_loss(config.relation, output.features, vectors, shard)
    if config.logit.weight > 0:
        terms["logit"] = logit_loss(config.logit, logits, shard.all_gather(_required(teacher.logits, "logit")))
    if config.feature.weight > 0:
        if feature_loss is None:
            raise ValueError("loss.feature.weight is above zero, but feature_loss, its projection, is missing")
        terms["feature"] = feature_loss(output.features, _required(teacher.features, "feature"), shard)
    weighted = terms["label"]
    for name in config.terms_on():
        weighted = weighted + getattr(config, name).weight * terms[name]
    return terms | {"total": weighted}


def _required(output: Tensor | None, term: str) -> Tensor:
    if output is None:
        raise ValueError(f"loss.{term}.weight is above zero, but the teacher outputs that it needs are missing")
    return output
