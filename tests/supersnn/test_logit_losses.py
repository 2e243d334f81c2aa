"""Losses of logits against loops over steps, samples and classes."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from supersnn.config import LabelLossConfig, LogitLossConfig, LossConfig
from supersnn.logit_losses import ensemble_loss, label_loss, logit_loss
from supersnn.losses import TeacherOutputs, total
from supersnn.networks.base import Output
from supersnn.records.metrics import METRICS

T, B, K = 3, 4, 5
LABELS = torch.tensor([0, 4, 2, 2])


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def probabilities(logits: list[float], tau: float) -> list[float]:
    powers = [math.exp(value / tau) for value in logits]
    return [power / sum(powers) for power in powers]


def slow_divergence(p: list[float], q: list[float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def slow_logit_loss(steps: Tensor, teacher: Tensor, tau: float, direction: str) -> float:
    found = []
    for step in steps:
        for b in range(B):
            p, q = probabilities(teacher[b].tolist(), tau), probabilities(step[b].tolist(), tau)
            ways = {"forward": slow_divergence(p, q), "reverse": slow_divergence(q, p)}
            ways["both"] = (ways["forward"] + ways["reverse"]) / 2
            found.append(tau**2 * ways[direction])
    return sum(found) / len(found)


@pytest.mark.parametrize("time", ["mean", "per_step"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "both"])
@pytest.mark.parametrize("tau", [1.0, 3.0])
def test_the_logit_term(direction: Any, time: Any, tau: float) -> None:
    logits, teacher = drawn(T, B, K), drawn(B, K, seed=1)
    config = LogitLossConfig(temperature=tau, direction=direction, time=time)
    steps = logits if time == "per_step" else logits.mean(0, keepdim=True)
    assert float(logit_loss(config, logits, teacher)) == pytest.approx(slow_logit_loss(steps, teacher, tau, direction))
    assert float(logit_loss(config, teacher.expand(T, B, K), teacher)) == pytest.approx(0, abs=1e-12)


def test_every_step_learns_from_the_mean_over_time() -> None:
    logits = drawn(T, B, K).requires_grad_()
    loss = ensemble_loss(LabelLossConfig(ensemble_temperature=2.0), logits)
    mean = logits.detach().mean(0)
    assert float(loss.detach()) == pytest.approx(slow_logit_loss(logits.detach(), mean, 2.0, "forward"))
    (gradient,) = torch.autograd.grad(loss, logits)
    # of τ² · KL(p ‖ softmax(z/τ)) with a constant p: τ · (softmax(z/τ) - p), over T · B samples
    expected = 2 * ((logits.detach() / 2).softmax(2) - (mean / 2).softmax(1)) / (T * B)
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("kind", ["mean", "per_step"])
def test_tets_regulariser_draws_every_logit_to_its_target(kind: Any) -> None:
    logits = drawn(T, B, K)
    plain = label_loss(LabelLossConfig(kind=kind), logits, LABELS)
    squares = [(float(logits[t, b, k]) - 1.5) ** 2 for t in range(T) for b in range(B) for k in range(K)]
    expected = 0.9 * float(plain) + 0.1 * sum(squares) / len(squares)
    config = LabelLossConfig(kind=kind, mse=0.1, mse_target=1.5)
    assert float(label_loss(config, logits, LABELS)) == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["mean", "per_step"])
def test_labels_may_be_distributions(kind: Any) -> None:
    logits, config = drawn(T, B, K), LabelLossConfig(kind=kind, smoothing=0.1)
    hard = torch.nn.functional.one_hot(LABELS, K).double()
    torch.testing.assert_close(label_loss(config, logits, hard), label_loss(config, logits, LABELS))


def test_a_convex_total_shares_its_weight_between_label_and_teacher() -> None:
    output, outputs = Output(drawn(T, B, K), drawn(T, B, 2, 1, 1)), TeacherOutputs(logits=drawn(B, K, seed=1))
    for weighting, of_label in (("convex", 0.1), ("added", 1.0)):
        config = LossConfig.model_validate({"logit": {"weight": 0.9, "weighting": weighting}})
        terms = total(config, output, LABELS, outputs)
        torch.testing.assert_close(terms["total"], of_label * terms["label"] + 0.9 * terms["logit"])
    with pytest.raises(ValueError, match="expected at most 1 with weighting 'convex'"):
        LogitLossConfig(weight=1.5, weighting="convex")


def test_the_ensemble_term_needs_no_teacher_and_is_recorded() -> None:
    output = Output(drawn(T, B, K), drawn(T, B, 2, 1, 1))
    config = LossConfig.model_validate({"label": {"ensemble": 0.5}})
    assert config.terms_on() == ()
    terms = total(config, output, LABELS)
    torch.testing.assert_close(terms["total"], terms["label"] + 0.5 * terms["ensemble"])
    torch.testing.assert_close(terms["ensemble_weighted"], 0.5 * terms["ensemble"])
    assert {"loss/ensemble", "loss/ensemble_weighted"} <= METRICS.keys()
