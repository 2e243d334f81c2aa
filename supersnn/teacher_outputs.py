"""Which outputs of a teacher a training needs, and how they are computed from the teacher's network."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from supersnn.config import LossConfig
from supersnn.losses import TeacherOutputs, pooled
from supersnn.networks.base import Network
from supersnn.numerics import gpu_precision


@dataclass(frozen=True)
class OutputKind:
    """One kind of teacher output.

    name: ``logits``, ``vectors`` (pooled features) or ``features`` (unpooled maps).
    pool: the side that features are pooled to, for ``vectors``.
    """

    name: Literal["logits", "vectors", "features"]
    pool: int | None = None

    def __str__(self) -> str:
        return self.name if self.pool is None else f"{self.name}{self.pool}"


LOGITS, FEATURES = OutputKind("logits"), OutputKind("features")


def output_kinds(terms: Collection[str], pools: Collection[int]) -> tuple[OutputKind, ...]:
    """Return the outputs that some loss terms need.

    Args:
        terms: of `config.LOSS_TERMS`. Logits are always among the outputs, because they are small.
        pools: every value that `loss.relation.pool` may have.
    """
    vectors = sorted(set(pools)) if "relation" in terms else []
    features = (FEATURES,) if "feature" in terms else ()
    return (LOGITS, *(OutputKind("vectors", pool) for pool in vectors), *features)


def needed_outputs(loss: LossConfig) -> tuple[OutputKind, ...]:
    """Return the outputs that a training with this loss needs."""
    return output_kinds(loss.terms_on(), [loss.relation.pool])


def compute_outputs(network: Network, images: Tensor, kinds: Collection[OutputKind]) -> dict[OutputKind, Tensor]:
    """Return the outputs [B, ...] of an artificial network for normalised images [B, C, H, W], as float32.

    On a GPU the network runs in `numerics.gpu_precision`; its maps are pooled in float32 nevertheless.
    """
    device = images.device
    half = gpu_precision(device) == "bf16"
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=half):
        logits, features = (part.float() for part in network(images))
    with torch.no_grad():
        return {kind: _select(kind, logits, features) for kind in kinds}


def _select(kind: OutputKind, logits: Tensor, features: Tensor) -> Tensor:
    """Return one kind of output, without its time dimension of 1."""
    if kind == LOGITS:
        return logits[0]
    if kind.pool is None:
        return features[0]
    return pooled(features, kind.pool)[0]


def as_teacher_outputs(values: Mapping[OutputKind, Tensor]) -> TeacherOutputs:
    """Return the outputs in the form that the loss takes."""
    vectors = {kind.pool: value for kind, value in values.items() if kind.pool is not None}
    return TeacherOutputs(vectors, values.get(LOGITS), values.get(FEATURES))
