from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from supersnn.config import LabelLossConfig, LogitLossConfig, LossConfig, RelationLossConfig
from supersnn.logit_losses import label_loss, logit_loss
from supersnn.losses import FeatureLoss, TeacherOutputs, total
from supersnn.networks.base import Output
from supersnn.relation_loss import pooled, relation_loss
from supersnn.relations import RELATIONS

T, B, K = 2, 6, 5


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def spikes(*shape: int, seed: int = 0) -> Tensor:
    return (drawn(*shape, seed=seed) > 0.3).float()


LABELS = torch.tensor([0, 1, 2, 3, 4, 0])


@pytest.mark.parametrize("pool", [1, 2, 4])
def test_pooling_averages_windows_and_keeps_samples_and_steps_apart(pool: Any) -> None:
    features = spikes(T, B, 3, 8, 8)
    vectors = pooled(features, pool)
    assert vectors.shape == (T, B, 3 * pool * pool)
    window = 8 // pool
    for t, b, c in [(0, 0, 0), (1, 4, 2)]:
        for row in range(pool):
            for column in range(pool):
                rows, columns = slice(row * window, (row + 1) * window), slice(column * window, (column + 1) * window)
                expected = features[t, b, c, rows, columns].mean()
                torch.testing.assert_close(vectors[t, b, (c * pool + row) * pool + column], expected)


def test_a_map_smaller_than_the_pool_is_taken_as_it_is() -> None:
    features = spikes(T, B, 3, 2, 2)
    assert torch.equal(pooled(features, 4), features.flatten(2))


def test_the_label_term_is_the_cross_entropy_of_the_mean_logits_or_the_mean_of_each_steps() -> None:
    logits = drawn(T, B, K)
    mean = -logits.mean(0).log_softmax(1)[torch.arange(B), LABELS].mean()
    steps = torch.stack([-step.log_softmax(1)[torch.arange(B), LABELS].mean() for step in logits]).mean()
    torch.testing.assert_close(label_loss(LabelLossConfig(), logits, LABELS), mean)
    torch.testing.assert_close(label_loss(LabelLossConfig(kind="per_step"), logits, LABELS), steps)
    assert not torch.isclose(mean, steps)


@pytest.mark.parametrize("kind", ["mean", "per_step"])
def test_smoothing_mixes_in_the_uniform_distribution(kind: Any) -> None:
    logits = drawn(1, B, K)
    target = 0.8 * functional.one_hot(LABELS, K) + 0.2 / K
    expected = -(target * logits[0].log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(label_loss(LabelLossConfig(kind=kind, smoothing=0.2), logits, LABELS), expected)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_logit_term_is_the_tempered_divergence_of_the_teacher_from_the_student(temperature: float) -> None:
    logits, teacher = drawn(T, B, K), 3 * drawn(B, K, seed=1)
    p, q = (teacher / temperature).softmax(1), (logits.mean(0) / temperature).softmax(1)
    expected = temperature**2 * (p * (p / q).log()).sum(1).mean()
    config = LogitLossConfig(temperature=temperature)
    torch.testing.assert_close(logit_loss(config, logits, teacher), expected)
    torch.testing.assert_close(logit_loss(config, teacher.expand(T, B, K), teacher), torch.tensor(0.0))


@pytest.mark.parametrize("time", ["mean", "per_step"])
def test_the_logit_term_and_its_gradient_are_those_of_torchs_divergence(time: Any) -> None:
    teacher = 3 * drawn(B, K, seed=1)
    ours, theirs = (drawn(T, B, K).requires_grad_() for _ in range(2))
    term = logit_loss(LogitLossConfig(temperature=4.0, time=time), ours, teacher)
    steps = [theirs.mean(0)] if time == "mean" else list(theirs)
    target = functional.softmax(teacher / 4, 1)
    logs = [functional.log_softmax(step / 4, 1) for step in steps]
    expected = 16 * torch.stack([functional.kl_div(log, target, reduction="batchmean") for log in logs]).mean()
    term.backward()
    expected.backward()
    torch.testing.assert_close(term, expected)
    torch.testing.assert_close(ours.grad, theirs.grad)


def slow_relation_loss(kind: Any, student: Tensor, teacher: Tensor) -> Tensor:
    ours, theirs = RELATIONS[kind](student), RELATIONS[kind](teacher)
    pairs = [(i, j) for i in range(B) for j in range(B) if i != j]
    return torch.stack([(ours[i, j] - theirs[i, j]) ** 2 for i, j in pairs]).sum() / len(pairs)


@pytest.mark.parametrize("kind", RELATIONS)
@pytest.mark.parametrize("pool", [1, 2])
def test_the_relation_term_is_the_mean_over_pairs_for_each_view_of_time(kind: Any, pool: Any) -> None:
    features, teacher = spikes(T, B, 3, 4, 4), drawn(B, 17, seed=1).relu()
    steps = pooled(features, pool)
    views = {
        "mean": [(steps[0] + steps[1]) / 2],
        "concat": [torch.cat([steps[0], steps[1]], 1)],
        "per_step": [steps[0], steps[1]],
    }
    for time, vectors in views.items():
        expected = sum(slow_relation_loss(kind, v, teacher) for v in vectors) / len(vectors)
        config = RelationLossConfig(kind=kind, time=time, pool=pool)
        torch.testing.assert_close(relation_loss(config, features, teacher), expected)


def test_time_matters_to_a_relation_of_whole_spike_trains_only() -> None:
    """Samples that fire equally often, at different steps."""
    features = torch.zeros(2, 4, 1, 1, 1)
    features[0, :2] = features[1, 2:] = 1
    teacher = torch.ones(4, 3)
    mean = relation_loss(RelationLossConfig(kind="cosine", time="mean"), features, teacher)
    concat = relation_loss(RelationLossConfig(kind="cosine", time="concat"), features, teacher)
    assert float(mean) == pytest.approx(0, abs=1e-6)
    assert float(concat) == pytest.approx(8 / 12)


@pytest.mark.parametrize("batch", [2, 5, 6])
def test_shuffling_gives_every_sample_anothers_relations(batch: int) -> None:
    teacher = drawn(batch, 7, seed=1).relu()
    roll = [(i - batch // 2) % batch for i in range(batch)]
    assert all(i != other for i, other in enumerate(roll))
    features = spikes(T, batch, 7, 1, 1)
    shuffled = relation_loss(RelationLossConfig(shuffle=True), features, teacher)
    torch.testing.assert_close(shuffled, relation_loss(RelationLossConfig(), features, teacher[roll]))


def test_the_feature_term_compares_directions_after_the_projection() -> None:
    loss = FeatureLoss(3, 4, seed=0)
    features, teacher = spikes(T, B, 3, 4, 4), drawn(B, 4, 2, 2, seed=1)
    rate = functional.avg_pool2d(features.mean(0), 2)
    projected = torch.einsum("oi,bihw->bohw", loss.weight[:, :, 0, 0], rate)
    expected = torch.stack(
        [
            (a / a.norm() - z / z.norm()).square().sum()
            for a, z in zip(projected.flatten(1), teacher.flatten(1), strict=True)
        ]
    ).mean()
    torch.testing.assert_close(loss(features, teacher), expected)
    torch.testing.assert_close(loss(features, 7 * teacher), expected)
    larger = functional.interpolate(teacher, scale_factor=4)
    torch.testing.assert_close(loss(rate.expand(T, B, 3, 2, 2), larger), expected)


def test_the_projection_is_drawn_from_its_own_seed() -> None:
    torch.manual_seed(3)
    alone = torch.rand(4)
    torch.manual_seed(3)
    first = FeatureLoss(3, 4, seed=0)
    assert torch.equal(torch.rand(4), alone)
    assert torch.equal(FeatureLoss(3, 4, seed=0).weight, first.weight)
    assert not torch.equal(FeatureLoss(3, 4, seed=1).weight, first.weight)


def test_silent_students_get_moderate_gradients_from_every_term() -> None:
    loss = FeatureLoss(3, 4, seed=0)
    outputs = TeacherOutputs({2: drawn(B, 8).relu()}, features=drawn(B, 4, 4, 4))
    for kind in RELATIONS:
        features = torch.zeros(T, B, 3, 4, 4, requires_grad=True)
        config = LossConfig(relation={"weight": 1, "kind": kind, "pool": 2}, feature={"weight": 1})
        total(config, Output(drawn(T, B, K), features), LABELS, outputs, loss)["total"].backward()
        assert features.grad is not None
        assert features.grad.abs().max() < 10


def test_the_total_is_the_weighted_sum_of_the_terms_with_a_weight() -> None:
    output = Output(drawn(T, B, K), spikes(T, B, 3, 4, 4))
    outputs = TeacherOutputs({1: drawn(B, 9), 2: drawn(B, 36)}, drawn(B, K, seed=1), drawn(B, 4, 2, 2))
    loss = FeatureLoss(3, 4, seed=0)
    config = LossConfig(relation={"weight": 30.0, "pool": 2}, logit={"weight": 0.5}, feature={"weight": 2.0})
    terms = total(config, output, LABELS, outputs, loss)
    assert list(terms) == ["label", "relation", "logit", "feature", "total"]
    torch.testing.assert_close(terms["relation"], relation_loss(config.relation, output.features, outputs.vectors[2]))
    expected = terms["label"] + 30 * terms["relation"] + 0.5 * terms["logit"] + 2 * terms["feature"]
    torch.testing.assert_close(terms["total"], expected)


def test_a_term_without_weight_is_not_computed_and_needs_no_teacher() -> None:
    output = Output(drawn(T, B, K), spikes(T, B, 3, 4, 4))
    terms = total(LossConfig(), output, LABELS)
    assert list(terms) == ["label", "total"]
    assert torch.equal(terms["label"], terms["total"])


@pytest.mark.parametrize("term", ["relation", "logit", "feature"])
def test_a_term_with_a_weight_needs_its_outputs(term: str) -> None:
    output = Output(drawn(T, B, K), spikes(T, B, 3, 4, 4))
    with pytest.raises(ValueError, match=f"loss.{term}.weight"):
        total(
            LossConfig(**{term: {"weight": 1.0}}),
            output,
            LABELS,
            TeacherOutputs({4: drawn(B, 9)}),
            FeatureLoss(3, 4, 0),
        )


def test_the_feature_term_needs_its_projection() -> None:
    output = Output(drawn(T, B, K), spikes(T, B, 3, 4, 4))
    with pytest.raises(ValueError, match="projection"):
        total(LossConfig(feature={"weight": 1.0}), output, LABELS, TeacherOutputs(features=drawn(B, 4, 2, 2)))


@pytest.mark.parametrize("pool", [1, 2, 4])
def test_the_feature_term_may_be_compared_at_a_side(pool: int) -> None:
    loss, pooled_loss = FeatureLoss(3, 4, seed=0), FeatureLoss(3, 4, seed=0, pool=pool)
    features, teacher = spikes(T, B, 3, 4, 4), drawn(B, 4, 8, 8, seed=1)
    rate = functional.adaptive_avg_pool2d(features.mean(0), pool)
    expected = loss(rate.unsqueeze(0), functional.adaptive_avg_pool2d(teacher, pool))
    torch.testing.assert_close(pooled_loss(features, teacher), expected)
