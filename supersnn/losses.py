"""The terms of a student's loss, and their sum: total = label + relation + logit + feature, each times its weight."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from supersnn.config import LabelLossConfig, LogitLossConfig, LossConfig, RelationLossConfig
from supersnn.networks.base import Output
from supersnn.relations import RELATIONS, unit
from supersnn.shards import Shard

_WHOLE = Shard()


@dataclass(frozen=True)
class TeacherOutputs:
    """What a teacher says of a batch; what no term asks for may be missing.

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
    maps = functional.adaptive_avg_pool2d(features.flatten(0, 1), side)
    return maps.flatten(1).unflatten(0, features.shape[:2])


def label_loss(config: LabelLossConfig, logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy of labels [B] with logits [T, B, K]: of their mean over time, or step by step.

    The mean of each step's cross-entropy: Deng et al. 2022, "Temporal efficient training of spiking neural
    network via gradient re-weighting".
    """
    if config.kind == "mean":
        return functional.cross_entropy(logits.mean(0), labels, label_smoothing=config.smoothing)
    return functional.cross_entropy(logits.flatten(0, 1), labels.repeat(len(logits)), label_smoothing=config.smoothing)


def logit_loss(config: LogitLossConfig, logits: Tensor, teacher: Tensor) -> Tensor:
    """Return τ² · KL(softmax(teacher/τ) ‖ softmax(student/τ)), mean over the batch.

    Hinton et al. 2015, "Distilling the knowledge in a neural network". `logits` [T, B, K] count by their mean
    over time; `teacher` is [B, K].
    """
    tau = config.temperature
    student = functional.log_softmax(logits.mean(0) / tau, dim=1)
    target = functional.log_softmax(teacher / tau, dim=1)
    return tau**2 * functional.kl_div(student, target, reduction="batchmean", log_target=True)


def relation_loss(config: RelationLossConfig, features: Tensor, teacher: Tensor, shard: Shard = _WHOLE) -> Tensor:
    """Return the pairwise-relational term of student maps [T, B, C, H, W] and teacher vectors [B, D], a shard's.

    With a relation ρ it is the mean of (ρ(student) - ρ(teacher))² over the B·(B-1) pairs of two samples, those of the
    other shards among them. The student's vectors are their mean over time, all steps in a row ([B, T·D]), or each
    step's own, whose terms are then averaged. `shuffle` hands the teacher's vectors to other samples: no sample keeps
    its own.
    """
    relation = RELATIONS[config.kind]
    vectors, teacher = shard.join(pooled(features, config.pool), 1), shard.join(teacher)
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
    """The feature term: a learned 1x1 projection of the student's rate against the teacher's map.

    Both maps are averaged to the smaller side of the two, flattened and brought to length 1 for each sample;
    the term is the squared distance between the two, mean over the batch: from 0, the same direction, to 4. A
    silent sample stays zero and passes no gradient.
    The projection is drawn from a generator of its own, so that with it and without it a student starts from
    the same weights.
    """

    def __init__(self, student_channels: int, teacher_channels: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        weight = torch.empty(teacher_channels, student_channels, 1, 1)
        self.weight = nn.Parameter(nn.init.kaiming_normal_(weight, generator=generator))

    def forward(self, features: Tensor, teacher: Tensor, shard: Shard = _WHOLE) -> Tensor:
        """Return the whole batch's term of a shard's student maps [T, B, C, H, W] and teacher maps [B, C', H', W']."""
        rate = features.mean(0)
        side = min(rate.shape[-1], teacher.shape[-1])
        projected = functional.conv2d(functional.adaptive_avg_pool2d(rate, side), self.weight)
        target = functional.adaptive_avg_pool2d(teacher, side)
        ours, theirs = shard.join(projected.flatten(1)), shard.join(target.flatten(1))
        return (unit(ours, ours) - unit(theirs, theirs)).square().sum(1).mean()


def total(
    config: LossConfig,
    output: Output,
    labels: Tensor,
    outputs: TeacherOutputs | None = None,
    feature_loss: FeatureLoss | None = None,
    shard: Shard = _WHOLE,
) -> dict[str, Tensor]:
    """Return each term that has a weight, unweighted, and under ``total`` their weighted sum.

    Keys: ``label`` and ``total`` always; ``relation``, ``logit``, ``feature`` where their weight is above zero.
    What is handed in is of one `shard` of the batch, the terms are those of the whole batch.

    Raises:
        ValueError: a term has a weight, but the outputs or the projection it needs is missing.
    """
    logits = shard.join(output.logits, 1)
    terms = {"label": label_loss(config.label, logits, shard.join(labels))}
    said = outputs or TeacherOutputs()
    if config.relation.weight > 0:
        vectors = _needed(said.vectors.get(config.relation.pool), "relation")
        terms["relation"] = relation_loss(config.relation, output.features, vectors, shard)
    if config.logit.weight > 0:
        terms["logit"] = logit_loss(config.logit, logits, shard.join(_needed(said.logits, "logit")))
    if config.feature.weight > 0:
        if feature_loss is None:
            raise ValueError("loss.feature.weight is above zero, but there is no projection")
        terms["feature"] = feature_loss(output.features, _needed(said.features, "feature"), shard)
    weighted = terms["label"]
    for name in config.terms_on():
        weighted = weighted + getattr(config, name).weight * terms[name]
    return terms | {"total": weighted}


def _needed(said: Tensor | None, term: str) -> Tensor:
    if said is None:
        raise ValueError(f"loss.{term}.weight is above zero, but the outputs says nothing for it")
    return said
