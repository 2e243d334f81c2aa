"""The neurons under `torch.func` and `torch.compile`: the same spikes, and the same gradients up to rounding."""

import pytest
import torch
from torch import Tensor
from torch.func import grad, vmap

from supersnn.neurons import lif

OPTIONS = [("hard", True), ("hard", False), ("soft", True), ("soft", False)]


def currents(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("surrogate", ["triangle", "rectangle", "atan", "sigmoid"])
@pytest.mark.parametrize(("reset", "detach"), OPTIONS)
def test_grad_is_the_gradient_of_the_kernels(reset: str, detach: bool, surrogate: str) -> None:
    weights = currents(4, 6)

    def loss(current: Tensor) -> Tensor:
        return (weights * lif(current, 0.5, 0.7, reset, surrogate, 1.5, detach)).sum()

    current = currents(4, 6).requires_grad_()
    loss(current).backward()
    assert current.grad is not None
    assert torch.allclose(grad(loss)(current.detach()), current.grad, atol=1e-12)
    assert bool(current.grad.any())


def test_vmap_is_a_loop_over_samples() -> None:
    current = currents(5, 3, 6)
    assert torch.equal(vmap(lambda one: lif(one, 0.5))(current), torch.stack([lif(one, 0.5) for one in current]))
    per_sample = vmap(grad(lambda one: lif(one, 0.5).square().sum()))(current)
    loop = torch.stack([grad(lambda one: lif(one, 0.5).square().sum())(one) for one in current])
    assert torch.allclose(per_sample, loop)
    constant = vmap(lambda one: lif(one, 0.5, steps=3))(current[:, 0])
    assert torch.equal(constant, torch.stack([lif(one, 0.5, steps=3) for one in current[:, 0]]))


def test_a_learned_decay_gets_its_gradient() -> None:
    current, decay = currents(4, 6), torch.tensor(0.6, dtype=torch.float64)
    found = grad(lambda d: (currents(4, 6) * lif(current, 0.5, d)).sum())(decay)
    learned = decay.clone().requires_grad_()
    (currents(4, 6) * lif(current, 0.5, learned)).sum().backward()
    assert learned.grad is not None
    assert torch.allclose(found, learned.grad)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_compiled_without_a_graph_break() -> None:
    current = currents(3, 6)
    compiled = torch.compile(lambda one: lif(one, 0.5), backend="eager", fullgraph=True)
    assert torch.equal(compiled(current), lif(current, 0.5))
