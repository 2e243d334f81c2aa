import math

import pytest
import torch
from torch import Tensor

from supersnn.relations import RELATIONS


def norm(a: list[float]) -> float:
    return math.sqrt(sum(x * x for x in a))


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def slow_cosine(rows: list[list[float]]) -> list[list[float]]:
    return [[dot(a, b) / (norm(a) * norm(b)) if norm(a) * norm(b) else 0.0 for b in rows] for a in rows]


def slow_centred_cosine(rows: list[list[float]]) -> list[list[float]]:
    mean = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
    return slow_cosine([[x - m for x, m in zip(row, mean, strict=True)] for row in rows])


def slow_gram(rows: list[list[float]]) -> list[list[float]]:
    products = [[dot(a, b) for b in rows] for a in rows]
    return [[x / norm(row) if norm(row) else 0.0 for x in row] for row in products]


def slow_distance(rows: list[list[float]]) -> list[list[float]]:
    apart = [[norm([x - y for x, y in zip(a, b, strict=True)]) for b in rows] for a in rows]
    mean = sum(map(sum, apart)) / (len(rows) * (len(rows) - 1))
    return [[d / mean if mean else 0.0 for d in row] for row in apart]


SLOW = {
    "cosine": slow_cosine,
    "centred_cosine": slow_centred_cosine,
    "gram": slow_gram,
    "distance": slow_distance,
}


def activations(batch: int = 9, size: int = 13, seed: int = 0) -> Tensor:
    return torch.randn(batch, size, generator=torch.Generator().manual_seed(seed)).relu()


def rates(batch: int = 9, size: int = 13) -> Tensor:
    """Spike counts of two steps, halved; the second sample is silent, the last two are equal."""
    vectors = torch.randint(0, 3, (batch, size), generator=torch.Generator().manual_seed(1)) / 2
    vectors[1] = 0
    vectors[-1] = vectors[-2]
    return vectors


every_relation = pytest.mark.parametrize("name", RELATIONS)


def test_every_relation_has_a_slow_twin() -> None:
    assert RELATIONS.keys() == SLOW.keys()


@every_relation
@pytest.mark.parametrize("vectors", [activations(), rates(), activations(2, 1), activations(30, 500)])
def test_the_matrix_is_the_double_loops(name: str, vectors: Tensor) -> None:
    expected = torch.tensor(SLOW[name](vectors.double().tolist()))
    torch.testing.assert_close(RELATIONS[name](vectors), expected.float(), rtol=1e-5, atol=1e-5)


@every_relation
@pytest.mark.parametrize("factor", [1e-3, 0.37, 1e4])
@pytest.mark.parametrize("vectors", [activations(), rates()])
def test_a_positive_factor_changes_nothing(name: str, factor: float, vectors: Tensor) -> None:
    relation = RELATIONS[name]
    torch.testing.assert_close(relation(factor * vectors), relation(vectors), rtol=1e-5, atol=1e-5)


def test_only_the_relations_that_say_so_are_free_of_the_offset() -> None:
    vectors = activations()
    free = {
        name
        for name, relation in RELATIONS.items()
        if torch.allclose(relation(vectors + 3), relation(vectors), atol=1e-4)
    }
    assert free == {"centred_cosine", "distance"}


@every_relation
def test_the_gradient_is_that_of_finite_differences(name: str) -> None:
    vectors = activations(5, 4).double() + 0.1
    assert torch.autograd.gradcheck(RELATIONS[name], (vectors.requires_grad_(),))


@every_relation
@pytest.mark.parametrize(
    "vectors",
    [rates(), torch.zeros(4, 6), torch.full((4, 6), 0.3), torch.eye(6)[:1].repeat(4, 1), activations() * 1e-30],
    ids=["a silent sample", "a silent batch", "equal samples", "equal single spikes", "vanishing"],
)
def test_silence_has_a_defined_value_and_a_finite_gradient(name: str, vectors: Tensor) -> None:
    vectors = vectors.clone().requires_grad_()
    matrix = RELATIONS[name](vectors)
    (matrix * activations(len(vectors), len(vectors), seed=2)).sum().backward()
    assert matrix.isfinite().all()
    assert vectors.grad is not None
    assert vectors.grad.isfinite().all()
    scale = max(float(vectors.detach().abs().max()), 1e-20)
    assert vectors.grad.abs().max() < 1e3 / scale


@every_relation
def test_a_silent_sample_relates_to_nobody_and_a_silent_batch_not_at_all(name: str) -> None:
    assert not RELATIONS[name](torch.zeros(4, 6)).any()
    if name in ("cosine", "gram"):
        assert not RELATIONS[name](rates())[1].any()
