"""Which outputs of a teacher a training needs, and how they are computed from the teacher's network."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from supersnn.config import LossConfig
from supersnn.layer_names import LAST, layer_names
from supersnn.losses import TeacherOutputs
from supersnn.networks.base import Network
from supersnn.networks.stages import Taps
from supersnn.numerics import gpu_precision
from supersnn.own_losses import needed_by
from supersnn.relation_loss import pooled


class TeacherSource(Protocol):
    """Provides the teacher's outputs for the batches of a training."""

    def __call__(self, position: Tensor, view: int, images: Tensor) -> TeacherOutputs:
        """Return the teacher's outputs for a batch.

        Args:
            position: int64 [B] on the CPU, rows of the training's `data.train`.
            view: number of the augmented view.
            images: that view, normalised, float32 [B, C, H, W] on the training's device.
        """


@dataclass(frozen=True)
class OutputKind:
    """One kind of teacher output.

    name: ``logits``, ``vectors`` (pooled features) or ``features`` (unpooled maps).
    pool: the side that features are pooled to, for ``vectors``.
    layer: whose features they are, of `layer_names`.
    """

    name: Literal["logits", "vectors", "features"]
    pool: int | None = None
    layer: str = LAST

    def __str__(self) -> str:
        name = self.name if self.pool is None else f"{self.name}{self.pool}"
        return name if self.layer == LAST else f"{self.layer}.{name}"


LOGITS, FEATURES = OutputKind("logits"), OutputKind("features")


def output_kinds(
    terms: Collection[str],
    pools: Collection[int | str],
    layers: Collection[str] = (LAST,),
    own: Collection[str] = (),
) -> tuple[OutputKind, ...]:
    """Return the outputs that some loss terms need.

    Args:
        terms: of `config.LOSS_TERMS`. Logits are always among the outputs, because they are small.
        pools: every value that `loss.relation.pool` may have.
        layers: every value that `loss.relation.layers` may have.
        own: what terms of one's own need, of `own_losses.NEEDS`.
    """
    kinds = {LOGITS}
    if "relation" in terms:
        names = {name for value in layers for name in layer_names(value)}
        kinds |= {_related(name, pool) for name in names for pool in pools}
    if "feature" in terms or "features" in own:
        kinds.add(FEATURES)
    if "vectors" in own:
        kinds.add(OutputKind("vectors", 1))
    order = {"logits": 0, "vectors": 1, "features": 2}
    return tuple(sorted(kinds, key=lambda kind: (order[kind.name], kind.pool or 0, kind.layer)))


def _related(layer: str, pool: int | str) -> OutputKind:
    """Return the output that relations of a layer are computed from."""
    return OutputKind("features", layer=layer) if pool == "full" else OutputKind("vectors", int(pool), layer)


def needed_outputs(loss: LossConfig) -> tuple[OutputKind, ...]:
    """Return the outputs that a training with this loss needs."""
    return output_kinds(loss.terms_on(), [loss.relation.pool], [loss.relation.layers], needed_by(loss))


def compute_outputs(network: Network, images: Tensor, kinds: Collection[OutputKind]) -> dict[OutputKind, Tensor]:
    """Return the outputs [B, ...] of an artificial network for normalised images [B, C, H, W], as float32.

    On a GPU the network runs in `numerics.gpu_precision`; its maps are pooled in float32 nevertheless.

    Raises:
        UserError: the network has fewer stages than `kinds` name.
    """
    device = images.device
    half = gpu_precision(device) == "bf16"
    earlier = sorted({kind.layer for kind in kinds} - {LAST})
    taps = Taps(network, images[:1], earlier, what="the teacher") if earlier else None
    try:
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=half):
            logits, features = (part.float() for part in network(images))
            maps = {LAST: features, **({layer: part.float() for layer, part in taps.take().items()} if taps else {})}
        with torch.no_grad():
            return {kind: logits[0] if kind == LOGITS else _select(kind, maps[kind.layer]) for kind in kinds}
    finally:
        if taps:
            taps.remove()


def _select(kind: OutputKind, features: Tensor) -> Tensor:
    """Return one kind of output of some features [1, B, C, H, W], without their time dimension."""
    return features[0] if kind.pool is None else pooled(features, kind.pool)[0]


def as_teacher_outputs(values: Mapping[OutputKind, Tensor]) -> TeacherOutputs:
    """Return the outputs in the form that the loss takes."""
    vectors = {kind.pool: value for kind, value in values.items() if kind.pool is not None and kind.layer == LAST}
    layers: dict[tuple[str, int | str], Tensor] = {
        (kind.layer, kind.pool or "full"): value.flatten(1) for kind, value in values.items() if kind.layer != LAST
    }
    return TeacherOutputs(vectors, values.get(LOGITS), values.get(FEATURES), layers)
