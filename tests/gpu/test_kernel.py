"""The neurons' kernel on a GPU: every reset, surrogate and kind of decay in each precision, and through `lif`."""

import itertools
from types import ModuleType

import pytest
import torch
from torch import Tensor

from supersnn.kernels import choice, eager
from supersnn.kernels.dynamics import Dynamics
from supersnn.neurons import lif
from supersnn.surrogates import SURROGATES
from tests.support.kernel_contract import drawn

STEPS = 3
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
ROUNDING = {torch.float32: 2**-22, torch.bfloat16: 2**-7, torch.float16: 2**-9}
"""Of one rounding and some more, relative."""

EVERY = list(itertools.product((True, False), SURROGATES, (True, False), (True, False)))


@pytest.fixture(scope="session")
def kernel(device: torch.device) -> ModuleType:
    """The kernel of a GPU; in the place of it, on a CPU, the one in torch's operations."""
    if device.type == "cpu":
        return eager
    assert choice.fused_fault() is None
    from supersnn.kernels import fused

    return fused


def slope_of(x: Tensor, dynamics: Dynamics) -> Tensor:
    return SURROGATES[dynamics.surrogate](x.clone(), dynamics.width)


def check(kernel: ModuleType, dynamics: Dynamics, constant: bool, dtype: torch.dtype, device: torch.device) -> None:
    """Compare each step with the equations in double precision, from the potentials that the kernel itself stored."""
    neurons = 2**17 + 5 if device.type == "cuda" else 2500
    current = drawn(1 if constant else STEPS, neurons, seed=0).to(device, dtype)
    upstream = drawn(STEPS, neurons, seed=1).to(device, dtype)
    potentials, spikes, gradient = (torch.full((STEPS, neurons), torch.nan).to(device, dtype) for _ in range(3))
    count = torch.tensor(5.0, dtype=torch.float64, device=device)
    kernel.forward(current, potentials, spikes, dynamics, count)
    of_decay = kernel.backward(potentials, upstream, gradient, dynamics, constant)
    u, s, g, decay = potentials.double(), spikes.double(), gradient.double(), float(dynamics.decay)
    assert torch.equal(spikes, (potentials.float() >= dynamics.threshold).to(dtype))
    assert float(count) == 5 + float(s.sum())
    v = torch.where(s > 0, 0.0 if dynamics.hard else u - dynamics.threshold, u)
    expected = current.double().expand(STEPS, -1).clone()
    expected[1:] += decay * v[:-1]
    tolerance = ROUNDING[dtype]
    torch.testing.assert_close(u, expected, rtol=tolerance, atol=2 * tolerance)
    exact, of_u = torch.zeros_like(u), torch.zeros(neurons, dtype=torch.float64, device=device)
    expected_decay = torch.zeros((), dtype=torch.float64, device=device)
    for t in reversed(range(STEPS)):
        slope = slope_of(u[t] - dynamics.threshold, dynamics)
        expected_decay += (of_u * v[t]).sum()
        through = 1 - s[t] if dynamics.hard else torch.ones_like(u[t])
        if not dynamics.detach_reset:
            through = through - slope * (u[t] if dynamics.hard else dynamics.threshold)
        of_u = exact[t] = upstream[t].double() * slope + decay * of_u * through
    found, wanted = (g[0], exact.sum(0)) if constant else (g, exact)
    rtol, atol = 2 * tolerance, 8 * tolerance
    if dynamics.surrogate == "rectangle":  # its edge is where rounding decides
        beyond = (found - wanted).abs() > atol + rtol * wanted.abs()
        assert float(beyond.double().mean()) < (2e-2 if kernel is eager else 1e-3)
    else:
        torch.testing.assert_close(found, wanted, rtol=rtol, atol=atol)
    assert (of_decay is None) == isinstance(dynamics.decay, float)
    if of_decay is not None:
        assert of_decay.dtype == torch.float32
        bound = max(100 * tolerance if kernel is eager else 1e-3, 1e-3)
        assert abs(float(of_decay) - float(expected_decay)) <= bound * float((exact[1:] * v[:-1]).abs().sum())


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))
def test_every_reset_surrogate_and_decay(kernel: ModuleType, device: torch.device, dtype: torch.dtype) -> None:
    for number, (hard, surrogate, detach, learned) in enumerate(EVERY):
        decay = torch.tensor(0.6, device=device) if learned else 0.6
        dynamics = Dynamics(0.75, decay, hard, surrogate, 0.83, detach)
        for constant in (False, True) if dtype == torch.float32 else (number % 3 == 0,):
            try:
                check(kernel, dynamics, constant, dtype, device)
            except AssertionError as error:
                raise AssertionError(f"{dynamics}, constant {constant}: {error}") from error


def test_what_the_kernel_cannot_do_is_done_in_torchs_operations(device: torch.device) -> None:
    def chosen(dtype: torch.dtype, surrogate: str) -> str:
        return getattr(choice.kernel_for(torch.zeros(2, 3, device=device, dtype=dtype), surrogate), "__name__", "")

    if device.type == "cuda":
        assert {chosen(dtype, "sigmoid") for dtype in DTYPES} == {"supersnn.kernels.fused"}
        assert chosen(torch.float64, "atan") == eager.__name__
    assert chosen(torch.float32, "of_my_own") == eager.__name__


def exact(*shape: int, seed: int) -> Tensor:
    """Currents on a grid of 1/64: potentials and spikes are exact in single precision, whatever the order."""
    return torch.randint(-64, 129, shape, generator=torch.Generator().manual_seed(seed)) / 64


LAYOUTS = {
    "contiguous": lambda x: x,
    "channels-last": lambda x: x.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3),
    "a slice": lambda x: torch.cat([x, x], 3)[:, :, :, : x.shape[3]],
    "transposed": lambda x: x.transpose(3, 4).contiguous().transpose(3, 4),
}


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_what_a_cpu_gives(device: torch.device, layout: str, overwrite: bool) -> None:
    source, upstream = exact(2, 4, 6, 5, 7, seed=0), exact(2, 4, 6, 5, 7, seed=1)
    found = []
    for place in (torch.device("cpu"), device):
        leaf = source.to(place).requires_grad_()
        current = LAYOUTS[layout](leaf * 1.0)
        spikes = lif(current, 0.75, 0.5, "soft", "triangle", 1.0, False, overwrite=overwrite)
        spikes.backward(upstream.to(place))
        assert leaf.grad is not None
        found.append((spikes.detach().cpu(), leaf.grad.cpu()))
    assert torch.equal(found[0][0], found[1][0])
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-5, atol=1e-5)


def test_a_current_that_is_constant_over_time(device: torch.device) -> None:
    found = []
    for place in (torch.device("cpu"), device):
        leaf = exact(4, 6, 5, 7, seed=2).to(place).requires_grad_()
        spikes = lif(leaf * 1.0, 0.75, 0.5, steps=3, overwrite=True)
        spikes.sum().backward()
        assert leaf.grad is not None
        found.append((spikes.detach().cpu(), leaf.grad.cpu()))
    assert torch.equal(found[0][0], found[1][0])
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-5, atol=1e-5)
