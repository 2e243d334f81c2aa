"""Checks of parts that are no networks: data sets, surrogates, relations, loss terms, metrics and optimisers."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from supersnn import relations, surrogates
from supersnn.config import (
    DatasetConfig,
    LossConfig,
    NetworkConfig,
    NeuronConfig,
    OptimizerConfig,
    OwnLossConfig,
)
from supersnn.data import training_data
from supersnn.errors import UserError
from supersnn.losses import TeacherOutputs
from supersnn.networks.base import Output
from supersnn.networks.build import build
from supersnn.optimisation import numbers_of, optimiser, restore_numbers, restored, state_of
from supersnn.own_losses import OwnTerms, needs
from supersnn.own_metrics import check_metrics, own_metrics
from supersnn.trying import FORM, random_data

_STEPS, _BATCH, _CLASSES, _CHANNELS = 2, 6, 4, 5


def dataset(path: str, arguments: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Check a data set: its training part, twice. Its test part stays closed."""
    config = DatasetConfig(name=path, arguments=dict(arguments))
    data = training_data(config)
    yield "images", f"{len(data.train)} train, {len(data.validation)} validation, {tuple(data.shape)}"
    yield "classes", ", ".join(data.classes[:8])
    if training_data(config).fingerprint != data.fingerprint:
        raise UserError(f"{path!r}: expected the same images at every call, found others: draw them from a seed")
    yield "the same at every call", data.fingerprint


def surrogate(path: str, arguments: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Check a surrogate derivative."""
    derivative = surrogates.surrogate(surrogates.with_arguments(path, arguments))
    x = torch.linspace(-50, 50, 100_001, dtype=torch.float64)
    slope = derivative(x.clone(), 1.0)
    if not bool(slope.isfinite().all()) or float(slope.abs().max()) == 0:
        raise UserError(f"{path!r}: expected a finite derivative that is not zero everywhere")
    yield "finite, of x's shape", f"{float(slope[50_000]):.3g} at the threshold"
    yield "integral over x (1 for the project's own)", f"{float(slope.sum()) * 1e-3:.4g}"


def relation(path: str, arguments: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Check a relation between samples."""
    function = relations.relation(path, arguments)
    vectors = torch.randn(_BATCH, 7, generator=torch.Generator().manual_seed(0))
    matrix = function(vectors)
    yield "a matrix [B, B]", f"{list(matrix.shape)}, from {float(matrix.min()):.3g} to {float(matrix.max()):.3g}"
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    if not torch.allclose(function(vectors[order]), matrix[order][:, order], atol=1e-4):
        raise UserError(f"{path!r}: samples in another order have other relations")
    yield "independent of the samples' order", "same relations"
    for name, silent in (("one silent sample", [2]), ("a silent batch", range(_BATCH))):
        given = vectors.clone()
        given[list(silent)] = 0
        given.requires_grad_()
        found = function(given)
        found.square().sum().backward()
        if not bool(found.isfinite().all()) or given.grad is None or not bool(given.grad.isfinite().all()):
            raise UserError(f"{path!r}: {name} (all zeros) has relations or gradients that are not finite")
        yield f"finite with {name}", "relations and gradients"


def loss(path: str, arguments: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Check a loss term."""
    yield "needs", ", ".join(needs(path)) or "no teacher"
    config = LossConfig(own={"term": OwnLossConfig(term=path, weight=1.0, arguments=dict(arguments))})
    terms = OwnTerms(config, with_teacher=True)
    value, student = _loss(terms, silent=False)
    yield "a scalar", f"{float(value.detach()):.4g}"
    value.backward()
    grads = [one.grad for one in student if one.grad is not None]
    if not grads or not all(bool(grad.isfinite().all()) for grad in grads):
        raise UserError(f"{path!r}: no finite gradient reaches the student's outputs")
    yield "gradients", f"of {len(grads)} of the student's outputs"
    value, _ = _loss(terms, silent=True)
    if not bool(value.isfinite()):
        raise UserError(f"{path!r}: a silent student gives {float(value.detach())}")
    yield "finite for a silent student", f"{float(value.detach()):.4g}"


def _loss(terms: OwnTerms, silent: bool) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(_STEPS, _BATCH, _CLASSES, generator=generator)
    features = torch.rand(_STEPS, _BATCH, _CHANNELS, 2, 2, generator=generator) * (not silent)
    logits.requires_grad_(), features.requires_grad_()
    teacher = TeacherOutputs(
        {1: torch.randn(_BATCH, 8, generator=generator)},
        torch.randn(_BATCH, _CLASSES, generator=generator),
        torch.rand(_BATCH, 8, 4, 4, generator=generator),
    )
    labels = torch.arange(_BATCH) % _CLASSES
    return terms.terms["term"](Output(logits, features), teacher, labels), (logits, features)


def metric(path: str, arguments: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Check a metric of an epoch."""
    _no_arguments(path, arguments)
    check_metrics([path])
    data = random_data(FORM, _CLASSES)
    network = build(NetworkConfig(architecture="resnet8"), NeuronConfig(), FORM, _CLASSES).eval()
    first, second = (own_metrics([path], network, data) for _ in range(2))
    ((key, value),) = first.items()
    yield "a finite number", f"{key} = {value:.4g}"
    if first != second:
        raise UserError(f"{path!r}: expected the same value for the same network, found {value} and {second[key]}")
    yield "the same at every call", f"{value:.4g}"


def optimizer(path: str, arguments: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Check an optimiser: it lowers a loss, and continues from its stored state to the same bits."""
    config = OptimizerConfig(name=path, lr=0.01, arguments=dict(arguments))
    whole, first = _descended(config, 6)
    if not first[-1] < first[0]:
        raise UserError(
            f"{path!r}: the loss of a small problem does not fall in 6 steps: {first[0]:.4g}, {first[-1]:.4g}"
        )
    yield "lowers a loss", f"{first[0]:.4g} to {first[-1]:.4g} in 6 steps"
    again, _ = _descended(config, 6, interrupted=3)
    if not all(torch.equal(a, b) for a, b in zip(whole, again, strict=True)):
        raise UserError(
            f"{path!r}: continued from its stored state, it gives other parameters: keep its state in `state`"
        )
    yield "continues to the same bits", "same parameters"


def _descended(config: OptimizerConfig, steps: int, interrupted: int | None = None) -> tuple[list[Tensor], list[float]]:
    """Return the parameters and the losses of a small problem, whose optimiser may be replaced by a restored one."""
    torch.manual_seed(0)
    layer = nn.Linear(4, 3)
    parameters, inputs, losses = list(layer.parameters()), torch.randn(16, 4), []
    made = optimiser(config, parameters)
    for step in range(steps):
        if step == interrupted:
            states, numbers = [state_of(made, one) for one in parameters], numbers_of(made, parameters)
            made = optimiser(config, parameters)
            for one, state in zip(parameters, states, strict=True):
                made.state[one].update({name: restored(name, value, one) for name, value in state.items()})
            restore_numbers(made, parameters, numbers)
        made.zero_grad()
        value = layer(inputs).square().mean()
        value.backward()
        made.step()
        losses.append(float(value.detach()))
    return [one.detach().clone() for one in parameters], losses


def _no_arguments(path: str, arguments: Mapping[str, Any]) -> None:
    if arguments:
        raise UserError(f"{path!r}: a part of this kind has no arguments, found {', '.join(arguments)}")
