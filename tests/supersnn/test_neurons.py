import gc
import itertools
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import snntorch
import torch
from snntorch import surrogate as snn_surrogate
from torch import Tensor

from supersnn.neurons import LIF, PLIF, lif
from supersnn.surrogates import SURROGATES


class SlowSpike(torch.autograd.Function):
    """The step function; backward, a surrogate."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, surrogate: str, width: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.surrogate, ctx.width = surrogate, width
        return (x >= 0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        return gradient * SURROGATES[ctx.surrogate](x.clone(), ctx.width), None, None


def slow_lif(
    current: Tensor, threshold: float, decay: Any, reset: str, surrogate: str, width: float, detach_reset: bool
) -> Tensor:
    """The slow twin: the three equations, one step after the other, differentiated by autograd."""
    v, spikes = torch.zeros_like(current[0]), []
    for now in current:
        u = decay * v + now
        s = SlowSpike.apply(u - threshold, surrogate, width)
        spikes.append(s)
        fired = s.detach() if detach_reset else s
        v = u * (1 - fired) if reset == "hard" else u - threshold * fired
    return torch.stack(spikes)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) + 0.3


def gradient(tensor: Tensor) -> Tensor:
    assert tensor.grad is not None
    return tensor.grad


def with_gradient(
    function: Callable[[Tensor, Tensor], Tensor], current: Tensor, decay: float, upstream: Tensor
) -> tuple[Tensor, Tensor, Tensor | None]:
    inputs, learnable = current.clone().requires_grad_(), torch.tensor(decay, requires_grad=True)
    spikes = function(inputs, learnable)
    spikes.backward(upstream)
    return spikes.detach(), gradient(inputs), learnable.grad


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("surrogate", SURROGATES)
@pytest.mark.parametrize(("reset", "detach_reset"), list(itertools.product(["hard", "soft"], [True, False])))
def test_spikes_and_gradients_are_those_of_the_slow_twin(
    reset: str, detach_reset: bool, surrogate: str, steps: Any
) -> None:
    constants = (reset, surrogate, 0.8, detach_reset)
    current, upstream = drawn(steps, 7, 11), drawn(steps, 7, 11, seed=1)
    expected = with_gradient(lambda i, decay: slow_lif(i, 0.7, decay, *constants), current, 0.6, upstream)
    learned = with_gradient(lambda i, decay: lif(i, 0.7, decay, *constants), current, 0.6, upstream)
    fixed = with_gradient(lambda i, _: lif(i, 0.7, 0.6, *constants), current, 0.6, upstream)
    torch.testing.assert_close(learned[0], expected[0], rtol=0, atol=1e-6)
    torch.testing.assert_close(fixed[0], expected[0], rtol=0, atol=1e-6)
    torch.testing.assert_close(learned[1], expected[1], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(fixed[1], expected[1], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(learned[2], expected[2] if steps > 1 else torch.tensor(0.0), rtol=1e-4, atol=1e-5)


PEERS = {"atan": snn_surrogate.atan(alpha=2.0), "sigmoid": snn_surrogate.sigmoid(slope=2)}
"""snntorch's surrogates of our shapes, at width 0.5; it has no rectangle, and its triangle is another function."""


@pytest.mark.parametrize("surrogate", PEERS)
@pytest.mark.parametrize("reset", ["hard", "soft"])
def test_it_is_snntorchs_leaky_with_an_immediate_reset(reset: str, surrogate: str) -> None:
    """As long as no potential reaches twice the threshold: snntorch's soft reset then subtracts it twice."""
    current, upstream = drawn(4, 50).clamp(max=0.99), drawn(4, 50, seed=1)
    ours = with_gradient(lambda i, decay: lif(i, 0.9, decay, reset, surrogate, 0.5, False), current, 0.55, upstream)

    def theirs(i: Tensor, decay: Any) -> Tensor:
        mechanism = {"hard": "zero", "soft": "subtract"}[reset]
        leaky = snntorch.Leaky(
            beta=0.55,
            threshold=0.9,
            spike_grad=PEERS[surrogate],
            reset_mechanism=mechanism,
            reset_delay=False,
        )
        membrane, spikes = leaky.reset_mem(), []
        for now in i:
            spike, membrane = leaky(now, membrane)
            spikes.append(spike)
        return torch.stack(spikes) + 0 * decay

    expected = with_gradient(theirs, current, 0.55, upstream)
    torch.testing.assert_close(ours[0], expected[0], rtol=0, atol=1e-6)
    torch.testing.assert_close(ours[1], expected[1], rtol=1e-5, atol=1e-5)


def test_a_potential_at_the_threshold_fires_and_the_resets_differ() -> None:
    current = torch.tensor([[0.5], [0.75], [0.0], [0.5]])
    # hard: u = .5, 1 (fires, v = 0), 0, .5      soft, θ = .75: u = .5, 1 (v = .25), .125, .5625
    assert lif(current, threshold=1.0, decay=0.5).flatten().tolist() == [0, 1, 0, 0]
    assert lif(current, threshold=0.75, decay=0.5, reset="soft").flatten().tolist() == [0, 1, 0, 0]
    assert lif(current, threshold=0.5625, decay=0.5, reset="soft").flatten().tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize("learned", [False, True])
def test_many_neurons_are_as_each_by_itself(learned: bool) -> None:
    """More neurons than are worked on at a time."""
    current, upstream = drawn(2, 300_001), drawn(2, 300_001, seed=1)

    def ours(i: Tensor, decay: Any) -> Tensor:
        return lif(i, 1.0, decay if learned else 0.5, "hard", "triangle", 1.0, False)

    expected = with_gradient(
        lambda i, decay: slow_lif(i, 1.0, decay if learned else 0.5, "hard", "triangle", 1.0, False),
        current,
        0.5,
        upstream,
    )
    found = with_gradient(ours, current, 0.5, upstream)
    torch.testing.assert_close(found[0], expected[0], rtol=0, atol=0)
    torch.testing.assert_close(found[1], expected[1], rtol=1e-5, atol=1e-5)
    if learned:
        torch.testing.assert_close(found[2], expected[2], rtol=1e-3, atol=1e-3)


LAYOUTS = {
    "contiguous": lambda x: x,
    "channels last": lambda x: x.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, (3, 4)),
    "transposed": lambda x: x.transpose(2, 4).contiguous().transpose(2, 4),
    "every other row": lambda x: torch.stack([x, x], 3).flatten(2, 3)[:, :, ::2],
    "constant": lambda x: x[:1].expand(3, -1, -1, -1, -1),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("upstream_layout", ["contiguous", "channels last"])
def test_the_memory_layout_changes_nothing_else(layout: str, upstream_layout: str) -> None:
    plain = LAYOUTS[layout](drawn(3, 4, 5, 6, 7)).contiguous()
    upstream = drawn(3, 4, 5, 6, 7, seed=1)
    expected = with_gradient(lambda i, decay: lif(i, 1.0, decay), plain, 0.5, upstream)
    current = LAYOUTS[layout](plain).requires_grad_()
    spikes = lif(current, 1.0, 0.5)
    spikes.backward(LAYOUTS[upstream_layout](upstream))
    torch.testing.assert_close(spikes, expected[0], rtol=0, atol=0)
    torch.testing.assert_close(current.grad, expected[1], rtol=0, atol=1e-7)
    if layout in ("channels last", "transposed"):
        assert spikes.stride() == current.stride()


def test_a_current_without_time_is_the_same_at_each_step() -> None:
    current, upstream = drawn(4, 5, 6, 6), drawn(3, 4, 5, 6, 6, seed=1)
    once, repeated = current.clone().requires_grad_(), current.clone().requires_grad_()
    found, expected = lif(once, steps=3), lif(repeated.expand(3, -1, -1, -1, -1))
    found.backward(upstream)
    expected.backward(upstream)
    assert torch.equal(found, expected)
    torch.testing.assert_close(once.grad, repeated.grad)


@pytest.mark.parametrize("reset", ["hard", "soft"])
@pytest.mark.parametrize("steps", [None, 3])
def test_overwriting_gives_the_same_bits_once(reset: str, steps: Any) -> None:
    source, upstream = drawn(3, 20), drawn(*([3] if steps else []), 3, 20, seed=1)
    kept, spent = source.clone().requires_grad_(), source.clone().requires_grad_()
    expected = lif(kept, reset=reset, detach_reset=False, steps=steps)
    found = lif(spent * 1, reset=reset, detach_reset=False, steps=steps, overwrite=True)
    assert torch.equal(kept, source)
    expected.backward(upstream, retain_graph=True)
    found.backward(upstream, retain_graph=True)
    assert torch.equal(found, expected)
    assert torch.equal(gradient(spent), gradient(kept))
    expected.backward(upstream)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        found.backward(upstream)


def test_the_bits_are_the_same_in_every_run() -> None:
    def run() -> tuple[Any, ...]:
        current, upstream = drawn(2, 100_000), drawn(2, 100_000, seed=1)
        return with_gradient(lambda i, decay: lif(i, 1.0, decay, "soft", "sigmoid", 0.5), current, 0.5, upstream)

    assert all(torch.equal(a, b) for a, b in zip(run(), run(), strict=True))


def test_half_precision_stays_half_precision() -> None:
    current = drawn(2, 40).bfloat16().requires_grad_()
    spikes = lif(current, 1.0, torch.tensor(0.5))
    spikes.sum().backward()
    assert spikes.dtype == gradient(current).dtype == torch.bfloat16


def test_a_layer_acts_on_folded_time() -> None:
    current = drawn(3 * 4, 5, 6, 6).contiguous(memory_format=torch.channels_last)
    layer = LIF(3, threshold=0.8, decay=0.4, reset="soft", surrogate="atan", width=0.5, detach_reset=False)
    expected = lif(current.unflatten(0, (3, 4)), 0.8, 0.4, "soft", "atan", 0.5, False).flatten(0, 1)
    spikes = layer(current.clone(memory_format=torch.preserve_format))
    assert torch.equal(spikes, expected)
    assert spikes.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(
        layer(current[:4].clone(), constant=True), lif(current[:4], 0.8, 0.4, "soft", steps=3).flatten(0, 1)
    )


@pytest.mark.parametrize("kind", [LIF, PLIF])
def test_a_printed_layer_tells_its_constants(kind: Any) -> None:
    text = str(kind(2, threshold=0.7, decay=0.25, reset="soft"))
    assert "threshold=0.7" in text
    assert "reset=soft" in text
    assert "decay=0.25" in text


def test_a_layer_remembers_nothing() -> None:
    layer = LIF(2)
    first = layer(drawn(4, 3))
    assert torch.equal(layer(drawn(4, 3)), first)
    gone = weakref.ref(layer)
    del layer
    gc.collect()
    assert gone() is None


def test_a_learnable_decay_starts_as_given_learns_and_stays_between_zero_and_one() -> None:
    layer = PLIF(3, decay=0.3)
    assert float(layer.decay.detach()) == pytest.approx(0.3)
    assert [name for name, _ in layer.named_parameters()] == ["decay_logit"]
    for sign in (1, -1):
        optimizer = torch.optim.SGD(layer.parameters(), lr=100.0)
        for _ in range(5):
            optimizer.zero_grad()
            (sign * layer(drawn(3 * 8, 20))).sum().backward()
            assert gradient(layer.decay_logit).isfinite()
            optimizer.step()
        assert 0 <= float(layer.decay.detach()) <= 1
    assert float(layer.decay.detach()) != pytest.approx(0.3)


@pytest.mark.parametrize("kind", [LIF, PLIF])
def test_scaled_inputs_are_those_of_the_published_plif(kind: type[LIF]) -> None:
    """H[t] = V[t-1] + (X[t] - V[t-1]) / τ with τ = 2.5 and a hard reset (Fang et al. 2021)."""
    currents = 3 * torch.randn(4, 5, 6, generator=torch.Generator().manual_seed(1))
    layer = kind(4, decay=1 - 1 / 2.5, scale_input=True)
    v, expected = torch.zeros(5, 6), []
    for current in currents:
        v = v + (current - v) / 2.5
        expected.append((v >= 1).float())
        v = v * (v < 1)
    x = currents.flatten(0, 1).requires_grad_()
    found = layer(x * 1.0)
    assert torch.equal(found, torch.cat(expected))
    found.sum().backward()
    if isinstance(layer, PLIF):
        assert layer.decay_logit.grad is not None
        assert layer.decay_logit.grad.abs() > 0
    assert "scale_input=True" in repr(layer)
    assert "scale_input" not in repr(kind(4))
