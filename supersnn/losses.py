"""The terms of a student's loss, and their weighted sum: total = label + relation + logit + feature + own terms."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from supersnn.config import LossConfig
from supersnn.layer_names import LAST
from supersnn.logit_losses import ensemble_loss, label_loss, logit_loss
from supersnn.networks.base import Output
from supersnn.relation_loss import RelationLoss, average_pooled
from supersnn.relations import unit
from supersnn.shards import Shard

_FULL_BATCH = Shard()
OwnTerm = Callable[[Output, "TeacherOutputs", Tensor], Tensor]


@dataclass(frozen=True)
class TeacherOutputs:
    """A teacher's outputs for a batch; those that no loss term needs may be missing.

    `vectors`: pooled features [B, D] by pooled side (1, 2 or 4); `logits` [B, K]; `features` [B, C, H, W]. `layers`:
    vectors [B, D] of the stages before the last one, by layer and pooled side (`supersnn.networks.stages`).
    """

    vectors: Mapping[int, Tensor] = field(default_factory=dict)
    logits: Tensor | None = None
    features: Tensor | None = None
    layers: Mapping[tuple[str, int | str], Tensor] = field(default_factory=dict)

    def related(self, layer: str, pool: int | str) -> Tensor | None:
        """Return the vectors [B, D] of a layer that relations are computed from, None if they are missing."""
        if layer != LAST:
            return self.layers.get((layer, pool))
        if pool != "full":
            return self.vectors.get(int(pool))
        return None if self.features is None else self.features.flatten(1)


class FeatureLoss(nn.Module):
    """The feature term: distance of a learned 1x1 projection of the student's firing rates to the teacher's map.

    Both maps are average-pooled to the smaller side of the two, flattened and scaled to length 1 per sample. The term
    is their mean squared distance over the batch: 0 for the same direction, at most 4. A silent sample stays zero and
    passes no gradient. The projection is drawn from its own generator, so that a student starts from the same weights
    with it and without it. With a `pool` the side is at most that.
    """

    def __init__(self, student_channels: int, teacher_channels: int, seed: int, pool: int | str = "full") -> None:
        super().__init__()
        self.pool = pool
        generator = torch.Generator().manual_seed(seed)
        weight = torch.empty(teacher_channels, student_channels, 1, 1)
        self.weight = nn.Parameter(nn.init.kaiming_normal_(weight, generator=generator))

    def forward(self, features: Tensor, teacher: Tensor, shard: Shard = _FULL_BATCH) -> Tensor:
        """Return the full batch's term from a shard's student maps [T, B, C, H, W], teacher maps [B, C', H', W']."""
        rate = features.mean(0)
        side = min(rate.shape[-1], teacher.shape[-1], *([] if self.pool == "full" else [int(self.pool)]))
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
    relation: RelationLoss | None = None,
    maps: Mapping[str, Tensor] | None = None,
    relation_weight: float | Tensor | None = None,
    own: "Mapping[str, OwnTerm]" = {},  # noqa: B006 (never changed)
) -> dict[str, Tensor]:
    """Return the unweighted terms with a weight above zero, and under ``total`` the weighted sum.

    The keys ``label`` and ``total`` are always present. The arguments belong to one `shard` of the batch, the terms to
    the full batch. A relational term whose weight changes is returned weighted too, as ``relation_weighted``.

    Args:
        config: of all terms.
        output: of the student.
        labels: int64 [B].
        outputs: of the teacher.
        feature_loss: the feature term's projection.
        shard: of the batch.
        relation: the relational term with its queue; by default a new one.
        maps: of the layers that relations are compared on, but the spikes of the last one (`networks.stages.Taps`).
        relation_weight: of the relational term in this step, where it has a schedule; by default the one at the start.
        own: the terms of `config.own` (`supersnn.own_losses`).

    Raises:
        ValueError: the teacher outputs or the projection that a term needs are missing.
    """
    logits = shard.all_gather(output.logits, 1)
    terms = {"label": label_loss(config.label, logits, shard.all_gather(labels))}
    teacher = outputs or TeacherOutputs()
    if config.relation.weight > 0:
        relation = relation or RelationLoss(config.relation)
        vectors = {
            layer: _required(teacher.related(layer, config.relation.pool), "relation") for layer in relation.layers
        }
        terms["relation"] = relation({LAST: output.features, **(maps or {})}, vectors, shard)
    if config.logit.weight > 0:
        terms["logit"] = logit_loss(config.logit, logits, shard.all_gather(_required(teacher.logits, "logit")))
    if config.feature.weight > 0:
        if feature_loss is None:
            raise ValueError("loss.feature.weight is above zero, but feature_loss, its projection, is missing")
        terms["feature"] = feature_loss(output.features, _required(teacher.features, "feature"), shard)
    convex = config.logit.weight > 0 and config.logit.weighting == "convex"
    weighted = (1 - config.logit.weight) * terms["label"] if convex else terms["label"]
    if config.label.ensemble > 0:
        terms["ensemble"] = ensemble_loss(config.label, logits)
        terms["ensemble_weighted"] = config.label.ensemble * terms["ensemble"]
        weighted = weighted + terms["ensemble_weighted"]
    for name, term in own.items():
        terms[name] = term(output, teacher, labels)
    for name in config.terms_on():
        weight = config.weight(name) if name != "relation" or relation_weight is None else relation_weight
        weighted = weighted + weight * terms[name]
        if name == "relation" and config.relation.schedule != "constant":
            terms["relation_weighted"] = weight * terms[name]
    return terms | {"total": weighted}


def _required(output: Tensor | None, term: str) -> Tensor:
    if output is None:
        raise ValueError(f"loss.{term}.weight is above zero, but the teacher outputs that it needs are missing")
    return output
