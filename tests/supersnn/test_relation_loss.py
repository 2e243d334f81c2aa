"""The relational term's options: whole maps, layers, signals, differences, scales, schedules and the queue."""

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from supersnn.config import LossConfig, RelationLossConfig
from supersnn.losses import TeacherOutputs, total
from supersnn.networks.base import Output
from supersnn.relation_loss import (
    RelationLoss,
    average_pooled,
    averaged_by_products,
    pooled,
    relation_loss,
    weight_factor,
)
from supersnn.relations import RELATIONS
from supersnn.rkd import angle

T, B = 3, 6


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def spikes(*shape: int, seed: int = 0) -> Tensor:
    return (drawn(*shape, seed=seed) > 0.3).float()


def slow_angle(x: Tensor) -> Tensor:
    cosines = torch.zeros(len(x), len(x), len(x), dtype=x.dtype)
    for j, i, k in itertools.product(range(len(x)), repeat=3):
        if j not in (i, k):
            a, b = x[i] - x[j], x[k] - x[j]
            cosines[j, i, k] = a @ b / (a.norm() * b.norm())
    return cosines


def slow_difference(name: str, a: Tensor, b: Tensor) -> Tensor:
    gap = (a - b).abs()
    if name == "squared":
        return gap**2
    return gap**2 / 2 if gap < 1 else gap - 0.5


def slow_term(kind: str, difference: str, student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean over pairs or triplets of distinct samples."""
    if kind == "rkd":
        return slow_term("distance", difference, student, teacher) + 2 * slow_term(
            "angle", difference, student, teacher
        )
    order = 3 if kind == "angle" else 2
    relation = slow_angle if kind == "angle" else RELATIONS[kind]
    ours, theirs = relation(student), relation(teacher)
    places = [place for place in itertools.product(range(len(student)), repeat=order) if len(set(place)) == order]
    return torch.stack([slow_difference(difference, ours[place], theirs[place]) for place in places]).mean()


def test_the_angle_is_that_at_the_first_sample_of_a_triplet() -> None:
    x = drawn(5, 4).double()
    torch.testing.assert_close(angle(x), slow_angle(x))
    torch.testing.assert_close(angle(7 * x + 3), angle(x))


def test_equal_samples_have_no_angle_and_finite_gradients() -> None:
    for x in (torch.zeros(4, 3), torch.ones(4, 3), drawn(4, 3)[[0, 0, 1, 2]]):
        vectors = x.clone().requires_grad_()
        cosines = angle(vectors)
        cosines.square().sum().backward()
        assert vectors.grad is not None
        assert cosines.isfinite().all()
        assert vectors.grad.isfinite().all()
    assert not angle(torch.ones(4, 3)).any()


@pytest.mark.parametrize("difference", ["squared", "smooth_l1"])
@pytest.mark.parametrize("kind", [*RELATIONS, "angle", "rkd"])
def test_every_kind_is_the_mean_over_distinct_samples(kind: Any, difference: Any) -> None:
    features, teacher = spikes(1, B, 3, 4, 4), 5 * drawn(B, 17, seed=1).relu()
    config = RelationLossConfig(kind=kind, difference=difference)
    student = pooled(features, 1)[0]
    torch.testing.assert_close(
        relation_loss(config, features, teacher), slow_term(kind, difference, student, teacher), rtol=1e-4, atol=1e-6
    )


def published_rkd(student: Tensor, teacher: Tensor) -> Tensor:
    """Return 25 · RKD-D + 50 · RKD-A by the formulas of Park et al. 2019, with means over all B² and B³."""

    def distances(x: Tensor) -> Tensor:
        d = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
        return d / d[d > 0].mean()

    apart = functional.smooth_l1_loss(distances(student), distances(teacher))

    def corners(x: Tensor) -> Tensor:
        units = functional.normalize(x.unsqueeze(0) - x.unsqueeze(1), p=2, dim=2)
        return torch.bmm(units, units.transpose(1, 2))

    return 25 * apart + 50 * functional.smooth_l1_loss(corners(student), corners(teacher))


def test_rkd_is_the_published_loss_but_for_the_pairs_that_count() -> None:
    student, teacher = drawn(B, 8).double(), drawn(B, 5, seed=1).double()
    ours, theirs = student.clone().requires_grad_(), student.clone().requires_grad_()
    terms = {
        kind: relation_loss(RelationLossConfig(kind=kind, difference="smooth_l1"), ours[None, ..., None, None], teacher)
        for kind in ("distance", "angle", "rkd")
    }
    torch.testing.assert_close(terms["rkd"], terms["distance"] + 2 * terms["angle"])
    pairs, triplets = (B - 1) / B, (B - 1) * (B - 2) / B**2
    as_published = 25 * pairs * terms["distance"] + 50 * triplets * terms["angle"]
    expected = published_rkd(theirs, teacher)
    torch.testing.assert_close(as_published, expected)
    as_published.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_gram_is_the_published_loss_but_for_the_diagonal() -> None:
    student, teacher = drawn(B, 8).double(), drawn(B, 5, seed=1).double()
    ours, theirs = student.clone().requires_grad_(), student.clone().requires_grad_()
    term = relation_loss(RelationLossConfig(kind="gram"), ours[None, ..., None, None], teacher)
    rows = [functional.normalize(vectors @ vectors.T, dim=1) for vectors in (theirs, teacher)]
    apart = (rows[0] - rows[1]).square()
    published = apart.sum() / B**2  # with the diagonal
    expected = published - apart.diagonal().sum() / B**2
    assert expected < published
    torch.testing.assert_close(term * (B - 1) / B, expected)
    (term * (B - 1) / B).backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_whole_maps_keep_every_position() -> None:
    features, teacher = spikes(T, B, 3, 4, 4), drawn(B, 5 * 8 * 8, seed=1).relu()
    config = RelationLossConfig(kind="gram", pool="full", time="concat")
    vectors = torch.stack([features[:, b].flatten() for b in range(B)])
    assert vectors.shape == (B, T * 3 * 16)
    torch.testing.assert_close(relation_loss(config, features, teacher), slow_term("gram", "squared", vectors, teacher))


def test_rates_are_the_means_of_the_steps_so_far() -> None:
    features, teacher = spikes(T, B, 3, 2, 2), drawn(B, 9, seed=1).relu()
    so_far = torch.stack([features[: t + 1].mean(0) for t in range(T)])
    for time in ("mean", "concat", "per_step"):
        of_rates = relation_loss(RelationLossConfig(kind="cosine", signal="rates", time=time), features, teacher)
        by_hand = relation_loss(RelationLossConfig(kind="cosine", time=time), so_far, teacher)
        torch.testing.assert_close(of_rates, by_hand)


def test_several_layers_count_equally() -> None:
    maps = {"last": spikes(T, B, 4, 2, 2), "last-1": spikes(T, B, 3, 4, 4, seed=2)}
    teacher = {"last": drawn(B, 7, seed=1).relu(), "last-1": drawn(B, 5, seed=3).relu()}
    both = RelationLoss(RelationLossConfig(kind="gram", layers=["last-1", "last"]))(maps, teacher)
    each = [relation_loss(RelationLossConfig(kind="gram"), maps[name], teacher[name]) for name in maps]
    torch.testing.assert_close(both, (each[0] + each[1]) / 2)


@pytest.mark.parametrize("kind", [*RELATIONS, "angle"])
def test_the_relative_scale_is_the_share_of_the_teachers_variance_that_is_left(kind: Any) -> None:
    features, teacher = spikes(1, B, 3, 4, 4), drawn(B, 17, seed=1).relu()
    relation = angle if kind == "angle" else RELATIONS[kind]
    matrix = relation(teacher)
    order = matrix.dim()
    places = [place for place in itertools.product(range(B), repeat=order) if len(set(place)) == order]
    values = torch.stack([matrix[place] for place in places])
    raw = relation_loss(RelationLossConfig(kind=kind), features, teacher)
    relative = relation_loss(RelationLossConfig(kind=kind, scale="relative"), features, teacher)
    torch.testing.assert_close(relative, raw / values.var(correction=0), rtol=1e-4, atol=1e-5)


def test_a_teacher_that_tells_nothing_apart_leaves_a_finite_relative_term() -> None:
    features = spikes(1, B, 3, 4, 4).requires_grad_()
    for kind in RELATIONS:
        term = relation_loss(RelationLossConfig(kind=kind, scale="relative"), features, torch.zeros(B, 5))
        (gradient,) = torch.autograd.grad(term, features)
        assert term.isfinite()
        assert gradient.isfinite().all()


def test_the_weight_falls_along_its_schedule() -> None:
    assert [weight_factor("constant", x) for x in (0, 0.5, 0.9)] == [1, 1, 1]
    assert [weight_factor("linear", x) for x in (0, 0.25, 1)] == [1, 0.75, 0]
    assert [weight_factor("cosine", x) for x in (0, 0.5, 1)] == pytest.approx([1, 0.5, 0])
    assert weight_factor("cosine", 0.25) == pytest.approx((1 + math.sqrt(0.5)) / 2)


def test_a_scheduled_weight_is_what_the_total_and_its_record_use() -> None:
    output, outputs = Output(drawn(T, B, 4), spikes(T, B, 3, 2, 2)), TeacherOutputs({1: drawn(B, 9).relu()})
    config = LossConfig(relation={"weight": 8.0, "schedule": "linear", "kind": "gram"})
    terms = total(config, output, torch.arange(B) % 4, outputs, relation_weight=8.0 * weight_factor("linear", 0.75))
    torch.testing.assert_close(terms["relation_weighted"], 2 * terms["relation"])
    torch.testing.assert_close(terms["total"], terms["label"] + 2 * terms["relation"])


@pytest.mark.parametrize("time", ["mean", "per_step"])
@pytest.mark.parametrize("kind", RELATIONS)
def test_a_queue_relates_the_batch_to_the_past_ones(kind: Any, time: Any) -> None:
    config = RelationLossConfig(kind=kind, queue=2, time=time)
    loss, relation = RelationLoss(config), RELATIONS[kind]
    batches = [(spikes(2, B, 5, 1, 1, seed=n), drawn(B, 7, seed=10 + n).relu()) for n in range(4)]
    for number, (features, teacher) in enumerate(batches):
        current = features.clone().requires_grad_()
        term = loss({"last": current}, {"last": teacher})
        past = batches[max(0, number - 2) : number][::-1]
        steps = torch.cat([features, *(f for f, _ in past)], 1)[..., 0, 0]
        views = [steps.mean(0)] if time == "mean" else list(steps)
        target = relation(torch.cat([teacher, *(z for _, z in past)]))
        pairs = [(i, j) for i in range(B) for j in range(len(target)) if i != j]
        expected = torch.stack(
            [torch.stack([(relation(v)[p] - target[p]) ** 2 for p in pairs]).mean() for v in views]
        ).mean()
        torch.testing.assert_close(term, expected, rtol=1e-4, atol=1e-6)
        term.backward()
        assert current.grad is not None


def test_a_queue_continues_from_its_state() -> None:
    config = RelationLossConfig(kind="gram", queue=1)
    loss, again = RelationLoss(config), RelationLoss(config)
    loss({"last": spikes(T, B, 5, 1, 1)}, {"last": drawn(B, 7)})
    again.load({name: value.clone() for name, value in loss.state().items()}, torch.device("cpu"))
    later = {"last": spikes(T, B, 5, 1, 1, seed=3)}, {"last": drawn(B, 7, seed=4)}
    assert torch.equal(loss(*later), again(*later))
    assert not torch.equal(loss(*later), RelationLoss(config)(*later))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"layers": "first"}, "expected stages, or a list of last"),
        ({"layers": ["last", "last"]}, "'last' twice"),
        ({"kind": "rkd", "queue": 1}, "relates triplets"),
    ],
)
def test_what_cannot_be_related_is_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        RelationLossConfig(**values)


@pytest.mark.parametrize(
    ("height", "width", "side"), [(7, 7, 2), (7, 7, 4), (5, 5, 3), (6, 7, 4), (8, 8, 2), (3, 3, 3)]
)
def test_an_average_by_products_of_matrices_is_torchs(height: int, width: int, side: int) -> None:
    maps = drawn(3, 5, height, width).contiguous(memory_format=torch.channels_last)
    upstream = drawn(3, 5, side, side, seed=1)
    found = []
    for average in (functional.adaptive_avg_pool2d, averaged_by_products, average_pooled):
        leaf = maps.clone().requires_grad_()
        averages = average(leaf, side)
        averages.backward(upstream)
        assert leaf.grad is not None
        found.append((averages.detach(), leaf.grad))
    for one in found[1:]:
        torch.testing.assert_close(one, found[0])
    assert torch.equal(found[2][0], found[0][0]), "on a CPU it is torch's own"
