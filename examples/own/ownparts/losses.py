"""A relation between the samples of a batch, and two loss terms: one of the teacher, one of the student alone."""

import torch
from torch import Tensor
from torch.nn import functional

from supersnn.losses import TeacherOutputs
from supersnn.networks.base import Output


def rbf(vectors: Tensor, scale: float = 1.0) -> Tensor:
    """Return exp(-d²/(scale·mean d²)) of each pair of vectors [B, D]."""
    squared = (vectors.square().sum(1)[:, None] + vectors.square().sum(1) - 2 * vectors @ vectors.T).clamp_min(0)
    mean = squared.sum() / (len(vectors) * (len(vectors) - 1))
    return torch.exp(-squared / (scale * mean + 1e-12))


def soft_labels(student: Output, teacher: TeacherOutputs, labels: Tensor, smoothing: float = 0.1) -> Tensor:
    """Return the cross-entropy with the teacher's probabilities, smoothed by the labels."""
    assert teacher.logits is not None
    target = (1 - smoothing) * teacher.logits.softmax(1) + smoothing * functional.one_hot(
        labels, teacher.logits.shape[1]
    )
    return functional.cross_entropy(student.logits.mean(0), target)


soft_labels.needs = ("logits",)  # type: ignore[attr-defined]


def sparse(student: Output, _teacher: TeacherOutputs, _labels: Tensor) -> Tensor:
    """Return the mean of the last feature map: fewer spikes are better. It needs no teacher."""
    return student.features.mean()
