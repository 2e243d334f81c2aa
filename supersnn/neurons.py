"""Leaky integrate-and-fire neurons over all time steps: an autograd function, and modules that call it."""

import math
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.autograd.graph import increment_version

from supersnn import parts
from supersnn.composed_neurons import composed, is_transformed
from supersnn.config import NeuronConfig
from supersnn.errors import UserError
from supersnn.kernels.choice import kernel_for
from supersnn.kernels.dynamics import Dynamics
from supersnn.surrogates import with_arguments


def lif(
    current: Tensor,
    threshold: float = 1.0,
    decay: float | Tensor = 0.5,
    reset: str = "hard",
    surrogate: str = "triangle",
    width: float = 1.0,
    detach_reset: bool = True,
    *,
    steps: int | None = None,
    overwrite: bool = False,
    count: Tensor | None = None,
) -> Tensor:
    """Return the spikes [T, ...], 0 or 1, of neurons at rest with input currents [T, ...].

    For each step t, with v[-1] = 0:

        u[t] = decay · v[t-1] + current[t]        membrane potential
        s[t] = 1 if u[t] >= threshold else 0      spike
        v[t] = u[t] · (1 - s[t])                  hard reset      (soft: v[t] = u[t] - threshold · s[t])

    In the backward pass ds/du is the surrogate's derivative at u - threshold; with `detach_reset` the s in v[t] is a
    constant. `decay` may be a 0-dimensional tensor that requires a gradient. Each step of the result has the memory
    layout of a step of `current`. Results are reproducible bit by bit.

    With `steps`, `current` is [...] without time, the same at each of so many steps. With `overwrite` the potentials
    overwrite `current`, and in the backward pass, which then can run only once, the gradient overwrites the potentials:
    for a current that nothing else reads, such as the output of a norm. Under `torch.func` and `torch.compile` it runs
    as plain operations, which overwrite and count nothing (`supersnn.composed_neurons`). The number of spikes is added
    to `count`, a 0-dimensional tensor of float64.
    """
    dynamics = Dynamics(threshold, _constant(decay), reset == "hard", surrogate, width, detach_reset)
    if is_transformed():
        return composed(current, decay, dynamics, steps)
    spikes: Tensor = _Lif.apply(current, decay, dynamics, steps, overwrite, count)
    return spikes


def _constant(decay: float | Tensor) -> float | Tensor:
    """Return a decay without its graph, so that the loop does not keep the graph alive."""
    return decay.detach() if isinstance(decay, Tensor) else decay


class _Lif(torch.autograd.Function):
    """A kernel's forward and backward loop on rows [T, N] of memory; the membrane potentials are saved in between."""

    @staticmethod
    def forward(
        ctx: Any,
        current: Tensor,
        _decay: float | Tensor,
        dynamics: Dynamics,
        steps: int | None,
        overwrite: bool,
        count: Tensor | None,
    ) -> Tensor:
        """Return the spikes; `_decay` equals that of `dynamics`, and is an argument so that autograd tracks it."""
        constant = steps is not None
        currents = current.unsqueeze(0) if constant else current
        spikes = _empty(len(currents) if steps is None else steps, currents[0])
        order = _memory_order(spikes)
        rows = _rows(currents, order)
        in_place = overwrite and not constant and rows.data_ptr() == current.data_ptr()
        potentials = current if in_place else _empty(len(spikes), spikes[0])
        kernel = kernel_for(current, dynamics.surrogate)
        kernel.forward(rows, _rows(potentials, order), _rows(spikes, order), dynamics, count)
        if in_place:
            increment_version(current)
        ctx.save_for_backward(potentials)
        ctx.options = kernel, dynamics, order, constant, overwrite
        return spikes

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_spikes: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of the current and of a learnable decay."""
        kernel, dynamics, order, constant, overwrite = ctx.options
        (potentials,) = ctx.saved_tensors
        of_current = potentials if overwrite else _empty(len(potentials), potentials[0])
        rows = (_rows(x, order) for x in (potentials, of_spikes, of_current))
        of_decay = kernel.backward(*rows, dynamics, constant)
        if overwrite:
            increment_version(potentials)
        return (of_current[0] if constant else of_current), of_decay, None, None, None, None


def _empty(steps: int, step: Tensor) -> Tensor:
    """Return an empty tensor of so many steps, each with the memory layout of `step`."""
    like = torch.empty_like(step)
    return torch.empty_strided(
        (steps, *step.shape), (like.numel(), *like.stride()), dtype=step.dtype, device=step.device
    )


def _memory_order(x: Tensor) -> list[int]:
    """Return the dimensions of a step of x [T, ...] in memory order, the one with the longest stride first."""
    return sorted(range(1, x.dim()), key=x.stride, reverse=True)


def _rows(x: Tensor, order: list[int]) -> Tensor:
    """Return x [T, ...] as rows [T, N] in a memory order: a view of x if it has that layout, else a copy."""
    return x.permute(0, *order).reshape(len(x), -1).contiguous()


class SpikeCounter:
    """Count of a layer's spikes, kept on the device at a fixed address, so that nothing waits for it.

    values: how many neurons and time steps were counted since the caller last set it to 0.
    """

    def __init__(self, device: torch.device) -> None:
        self.spikes = torch.zeros((), dtype=torch.float64, device=device)
        self.values = 0

    def clear(self) -> None:
        """Forget the spikes."""
        self.spikes.zero_()

    def add(self, spikes: Tensor) -> None:
        """Count the spikes of a layer that does not count them itself."""
        self.spikes += spikes.sign().abs_().sum()
        self.values += spikes.numel()

    def count(self) -> float:
        """Return the number of spikes."""
        return float(self.spikes)


class LIF(nn.Module):
    """A layer of leaky integrate-and-fire neurons on time-folded currents [T·B, ...]; see `lif`.

    The input is overwritten, as by `nn.ReLU(inplace=True)`. Its spikes are counted while it has a `counter`. With
    `scale_input` the current is multiplied by 1 - decay first: u[t] = decay · v[t-1] + (1 - decay) · current[t]. That
    is v + (current - v)/τ with 1/τ = 1 - decay.
    """

    spiking = True
    counter: SpikeCounter | None = None

    def __init__(
        self,
        steps: int,
        threshold: float = 1.0,
        decay: float = 0.5,
        reset: str = "hard",
        surrogate: str = "triangle",
        width: float = 1.0,
        detach_reset: bool = True,
        scale_input: bool = False,
    ) -> None:
        super().__init__()
        self.scale_input = scale_input
        self.steps, self.threshold, self.reset = steps, threshold, reset
        self.surrogate, self.width, self.detach_reset = surrogate, width, detach_reset
        self._set_decay(decay)

    def _set_decay(self, decay: float) -> None:
        self.decay: float | Tensor = decay

    def forward(self, current: Tensor, constant: bool = False) -> Tensor:
        """Return the spikes [T·B, ...] for currents [T·B, ...], or [B, ...] that are `constant` over time."""
        if self.scale_input:
            current = current * (1 - self.decay)
        spikes = lif(
            current if constant else current.unflatten(0, (self.steps, -1)),
            self.threshold,
            self.decay,
            self.reset,
            self.surrogate,
            self.width,
            self.detach_reset,
            steps=self.steps if constant else None,
            overwrite=True,
            count=None if self.counter is None else self.counter.spikes,
        )
        if self.counter is not None:
            self.counter.values += spikes.numel()
        return spikes.flatten(0, 1)

    def extra_repr(self) -> str:
        """Return the neuron's constants, for `print(network)`."""
        names = ["steps", "threshold", "reset", "surrogate", "width", "detach_reset"]
        names += ["scale_input"] if self.scale_input else []
        constants = ", ".join(f"{name}={getattr(self, name)}" for name in names)
        return f"{constants}, decay={torch.as_tensor(self.decay).detach():.4g}"


class PLIF(LIF):
    """LIF with one learnable decay per layer, σ(`decay_logit`), which keeps it within (0, 1).

    Its 1/τ is 1 - decay. As published, with an initial τ of 2, it also scales its input by 1/τ: `scale_input`. Fang et
    al. 2021, "Incorporating learnable membrane time constant to enhance learning of spiking neural networks".
    """

    def _set_decay(self, decay: float) -> None:
        self.decay_logit = nn.Parameter(torch.tensor(math.log(decay / (1 - decay))))

    @property
    def decay(self) -> Tensor:  # type: ignore[override]
        """The decay, a 0-dimensional tensor."""
        return self.decay_logit.sigmoid()


def counts_itself(layer: nn.Module) -> TypeGuard[LIF]:
    """Return whether a spiking layer counts its spikes while it has a `counter`."""
    return isinstance(layer, LIF) and type(layer).forward is LIF.forward


def own_neuron(config: NeuronConfig, steps: int) -> nn.Module:
    """Return a layer of neurons of your own, whose kind is an import path.

    Its class is called with those of `steps`, `threshold`, `decay`, `reset`, `surrogate`, `width`, `detach_reset` and
    `scale_input` that it has parameters for, and with its own arguments. As `LIF` it takes currents [T·B, ...], or [B,
    ...] with `constant=True`, and returns spikes [T·B, ...].

    Raises:
        UserError: it cannot be imported or constructed.
    """
    keys = ("threshold", "decay", "reset", "surrogate", "width", "detach_reset", "scale_input")
    given = {"steps": steps, **{key: getattr(config, key) for key in keys}}
    given["surrogate"] = with_arguments(config.surrogate, config.surrogate_arguments)
    layer = parts.call(config.kind, parts.function(config.kind), given, config.arguments, "neuron.arguments")
    if not isinstance(layer, nn.Module):
        raise UserError(f"{config.kind!r}: expected a torch module, found {type(layer).__name__}")
    if not getattr(layer, "spiking", False):
        raise UserError(f"{config.kind!r}: expected a layer with the attribute spiking = True, by which it is counted")
    return layer
