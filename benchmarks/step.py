"""A training step of one network with our neurons, snntorch's, spikingjelly's, and ReLU as the lower bound.

All sides are the same ResNet-14 with the same weights on the same images, time folded into the batch; only the
neurons differ. The three spiking ones compute the same: LIF with a hard, detached reset and the arctangent surrogate,
which all three have. Their agreement is checked before anything is timed. Each side runs in both memory layouts.
"""

import multiprocessing
import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.common import Result, interleaved, main, peak_memory, progress, spread
from supersnn.config import NetworkConfig, NeuronConfig, OptimizerConfig
from supersnn.networks.base import ImageShape, Network
from supersnn.networks.build import build
from supersnn.neurons import LIF
from supersnn.optimisation import optimiser

STEPS, BATCH, SIDE, CLASSES = 2, 64, 32, 10
NEURON = NeuronConfig(threshold=1.0, decay=0.5, reset="hard", surrogate="atan", width=0.5)
ALPHA = 2.0
"""The peers' name for the surrogate's width: both call its derivative (α/2) / (1 + (π α x / 2)²), so α = 1 / width."""
LAYOUTS = {"plain": torch.contiguous_format, "channels-last": torch.channels_last}


class Relu(nn.Module):
    """ReLU instead of our neurons, on the same folded batch."""

    def forward(self, current: Tensor, constant: bool = False) -> Tensor:
        """Return currents [T·B, ...] above zero, or T times those of [B, ...] that are `constant` over time."""
        return torch.cat([torch.relu(current)] * STEPS) if constant else torch.relu_(current)


class Snntorch(nn.Module):
    """snntorch's LIF in its loop over time, instead of ours."""

    def __init__(self) -> None:
        super().__init__()
        import snntorch
        from snntorch import surrogate

        self.leaky = snntorch.Leaky(
            beta=NEURON.decay,
            threshold=NEURON.threshold,
            spike_grad=surrogate.atan(alpha=ALPHA),
            reset_mechanism="zero",
        )

    def forward(self, current: Tensor, constant: bool = False) -> Tensor:
        """Return the spikes [T·B, ...] for currents [T·B, ...], or [B, ...] that are `constant` over time."""
        potential, spikes = self.leaky.init_leaky(), []
        for step in [current] * STEPS if constant else current.chunk(STEPS):
            spike, potential = self.leaky(step, potential)
            spikes.append(spike)
        return torch.cat(spikes)


class Spikingjelly(nn.Module):
    """spikingjelly's LIF in its multi-step mode, instead of ours; each batch begins at rest."""

    def __init__(self) -> None:
        super().__init__()
        from spikingjelly.activation_based import neuron, surrogate

        self.node = neuron.LIFNode(
            tau=1 / (1 - NEURON.decay),
            decay_input=False,
            v_threshold=NEURON.threshold,
            v_reset=0.0,
            surrogate_function=surrogate.ATan(alpha=ALPHA),
            detach_reset=True,
            step_mode="m",
        )

    def forward(self, current: Tensor, constant: bool = False) -> Tensor:
        """Return the spikes [T·B, ...] for currents [T·B, ...], or [B, ...] that are `constant` over time."""
        self.node.reset()
        steps = current.expand(STEPS, *current.shape) if constant else current.unflatten(0, (STEPS, -1))
        spikes: Tensor = self.node(steps)
        return spikes.flatten(0, 1)


SIDES: dict[str, Callable[[], nn.Module] | None] = {
    "ours": None,
    "spikingjelly": Spikingjelly,
    "snntorch": Snntorch,
    "relu": Relu,
}
"""The constructor of each side's neurons; None keeps ours."""


def network(side: str, layout: str, neuron: NeuronConfig = NEURON) -> Network:
    """Return the network of a side, with the same weights for every side."""
    torch.manual_seed(0)
    made = build(NetworkConfig(architecture="resnet14", time_steps=STEPS), neuron, ImageShape(3, SIDE), CLASSES)
    foreign = SIDES[side]
    if foreign is not None:
        for name, module in list(made.named_modules()):
            if isinstance(module, LIF):
                parent, _, child = name.rpartition(".")
                setattr(made.get_submodule(parent), child, foreign())
    return made.to(memory_format=LAYOUTS[layout])


def batch(size: int) -> tuple[Tensor, Tensor]:
    """Return images [B, C, H, W] and labels [B]."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(size, 3, SIDE, SIDE, generator=generator)
    return images, torch.randint(CLASSES, (size,), generator=generator)


def loss_of(made: Network, images: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy of the logits' mean over time."""
    return functional.cross_entropy(made(images).logits.mean(0), labels)


def training_step(made: Network, layout: str, size: int) -> Callable[[], None]:
    """Return a function that trains the network on a batch once."""
    images, labels = batch(size)
    images = images.contiguous(memory_format=LAYOUTS[layout])
    optimizer = optimiser(OptimizerConfig(), list(made.parameters()))

    def step() -> None:
        optimizer.zero_grad()
        loss_of(made, images, labels).backward()
        optimizer.step()

    return step


def disagreement(side: str) -> float:
    """Return the largest difference of a gradient from ours, as a share of that gradient's largest entry."""
    gradients = []
    for name in ("ours", side):
        made = network(name, "plain")
        loss_of(made, *batch(4)).backward()
        gradients.append([parameter.grad for parameter in made.parameters() if parameter.grad is not None])
    return max(float((a - b).abs().max() / a.abs().max().clamp_min(1e-6)) for a, b in zip(*gradients, strict=True))


def memory_of(side: str, layout: str, size: int) -> float:
    """Return by how many MB the process's peak memory grows while it trains; call it in a process of its own."""
    torch.set_num_threads(os.cpu_count() or 1)
    training_step(network(side, layout), layout, 2)()
    before = peak_memory()
    step = training_step(network(side, layout), layout, size)
    for _ in range(3):
        step()
    return peak_memory() - before


def peaks(size: int) -> Iterator[tuple[str, float]]:
    """Yield each side and layout with the memory of its training."""
    for side in SIDES:
        for layout in LAYOUTS:
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                yield f"{side}, {layout}", pool.apply(memory_of, (side, layout, size))


def measure(quick: bool) -> Result:
    """Return the time of a step and the memory of each side."""
    torch.set_num_threads(os.cpu_count() or 1)
    size, repeats = (4, 2) if quick else (BATCH, 12)
    apart = {side: disagreement(side) for side in ("spikingjelly", "snntorch")}
    if max(apart.values()) > 1e-3:
        raise AssertionError(f"the sides do not compute the same: {apart}")
    steps = {
        f"{side}, {layout}": training_step(network(side, layout), layout, size) for side in SIDES for layout in LAYOUTS
    }
    default = partial(network, "ours", neuron=NeuronConfig())
    steps |= {
        f"ours with the triangle surrogate, {layout}": training_step(default(layout), layout, size)
        for layout in LAYOUTS
    }
    progress("timing")
    measured = {side: spread(seconds) for side, seconds in interleaved(steps, repeats, warm_up=2).items()}
    progress("memory")
    notes: dict[str, Any] = {"memory of a training (MB)": {side: round(mb) for side, mb in peaks(size)}}

    def best(side: str) -> float:
        return min(measured[f"{side}, {layout}"].median for layout in LAYOUTS)

    ours = best("ours")
    return Result(
        name="step",
        unit="s a step",
        ratios={
            "spikingjelly": measured["spikingjelly, plain"].median / ours,
            "snntorch": measured["snntorch, plain"].median / ours,
            "relu": ours / measured["relu, plain"].median,
            "relu_best": ours / best("relu"),
            "spikingjelly_best": best("spikingjelly") / ours,
            "snntorch_best": best("snntorch") / ours,
        },
        measured=measured,
        notes=notes | {"largest difference of a gradient from ours": apart, "threads": torch.get_num_threads()},
    )


if __name__ == "__main__":
    main("step", measure, peers=("snntorch", "spikingjelly"))
