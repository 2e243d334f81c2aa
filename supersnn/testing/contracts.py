"""The contracts of parts of one's own, as protocols: what each is called with, and what it returns, with shapes."""

from collections.abc import Iterable
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from supersnn.data import Images, TrainingData
from supersnn.losses import TeacherOutputs
from supersnn.networks.base import ImageShape, LayerFactory, Network, Output
from supersnn.sources.base import RawImages


class NetworkPart(Protocol):
    """A student's or a teacher's constructor: `student.architecture`, `teacher.name`.

    It asks for what it needs by the names of its parameters (`supersnn.networks.own`); `layers.activation()` and
    `layers.norm(channels)` give spiking layers to a student and ReLU to a teacher. It works for any shape and number of
    classes, with channels-last memory too; evaluated twice, it gives the same; all of its parameters get a gradient.
    Its attribute `family` is its architecture family, its import path without it.
    """

    def __call__(self, *, layers: LayerFactory, shape: ImageShape, classes: int) -> Network | nn.Module:
        """Return a network whose forward takes images [B, C, H, W] and returns an `Output`, or a plain module.

        `Output`: logits [T, B, K] and features [T, B, C, H, W]. What a plain module returns:
        `supersnn.networks.adapter`.
        """


class NeuronPart(Protocol):
    """A layer of neurons: `neuron.kind`; a torch module with ``spiking = True``."""

    spiking: Literal[True]

    def __call__(self, current: Tensor, constant: bool = False) -> Tensor:
        """Return spikes [T·B, ...], 0 or 1, for currents [T·B, ...], or [B, ...] that are `constant` over time.

        Nothing is kept from one call to the next.
        """


class SurrogatePart(Protocol):
    """A surrogate derivative: `neuron.surrogate`."""

    def __call__(self, x: Tensor, width: float) -> Tensor:
        """Return the derivative at x = u - θ, of x's shape, finite; x may be overwritten."""


class RelationPart(Protocol):
    """A relation between the samples of a batch: `loss.relation.kind`."""

    def __call__(self, vectors: Tensor) -> Tensor:
        """Return a matrix [B, B] for vectors [B, D], with finite gradients, for silent samples (all zero) too."""


class LossPart(Protocol):
    """A term of the loss: `loss.own`. Its attribute `needs` names the teacher outputs that it uses."""

    def __call__(self, student: Output, teacher: TeacherOutputs, labels: Tensor) -> Tensor:
        """Return a scalar, the mean over the batch; student logits [T, B, K], features [T, B, C, H, W]; labels [B]."""


class DataPart(Protocol):
    """A data set: `dataset.name`; also a plain function, see `supersnn.sources.own`."""

    def read(self, part: Literal["train", "test"]) -> RawImages | tuple[Any, Any, Iterable[str]]:
        """Return a part: pixels uint8 [N, C, S, S], labels [N], names of the classes; the same at every call."""


class MetricPart(Protocol):
    """A metric of an epoch: `train.metrics`."""

    def __call__(self, network: Network, images: Images, data: TrainingData) -> float:
        """Return a finite number for the validation images."""


class OptimizerPart(Protocol):
    """A torch optimiser: `optimizer.name`."""

    def __call__(self, params: list[dict[str, Any]], *, lr: float) -> torch.optim.Optimizer:
        """Return the optimiser of two groups of parameters, each with its `weight_decay`."""
