"""`Network`: stem, activation, body and pooled linear read-out; `LayerFactory`: the layers of a body.

Time is folded into the batch, [T·B, C, H, W], from the stem's activation on, so that a convolution sees one big
batch and a batch norm takes its statistics over time and batch together.
"""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from supersnn.config import NetworkConfig, NeuronConfig
from supersnn.neurons import LIF, PLIF, own_neuron
from supersnn.parts import is_import_path
from supersnn.surrogates import with_arguments


class ImageShape(NamedTuple):
    """An image: its channels, and its side in pixels."""

    channels: int
    side: int


class Output(NamedTuple):
    """A network's outputs: logits [T, B, K], and the last map before pooling, features [T, B, C, H, W]."""

    logits: Tensor
    features: Tensor


class Network(nn.Module):
    """A classifier, spiking or artificial: read-out(pool(body(activation(stem(images))))).

    `stem` ends in a current, without activation; `body` ends in the feature map [T·B, `channels`, H, W]. With
    ReLU there is one time step, T = 1. With `hidden`, a number of neurons and their activation, the read-out has such a
    layer before its last one.

    An image [B, C, H, W] is the same at every step, so the stem runs once and its current is repeated T times
    (direct encoding). The result equals that of a folded batch of T copies, except for the factor n/(n-1) in the stem
    norm's running variance, with n = B·H·W instead of T·B·H·W. Event frames [T, B, C, H, W] differ between the steps,
    so the stem runs on the folded batch. A network of one step takes their mean over time.
    """

    def __init__(
        self,
        steps: int,
        stem: nn.Module,
        activation: nn.Module,
        body: nn.Module,
        channels: int,
        classes: int,
        hidden: tuple[int, nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.steps, self.channels, self.classes = steps, channels, classes
        self.stem, self.activation, self.body = stem, activation, body
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.readout: nn.Module = nn.Linear(channels, classes)
        if hidden is not None:
            width, neurons = hidden
            self.readout = nn.Sequential(nn.Linear(channels, width), neurons, nn.Linear(width, classes))

    def forward(self, images: Tensor) -> Output:
        """Return the outputs for images [B, C, H, W] or event frames [T, B, C, H, W].

        Raises:
            ValueError: the number of frames is not the number of time steps.
        """
        if self.steps == 1:
            spikes = self.activation(self.stem(images if images.dim() == 4 else images.mean(0)))
        elif images.dim() == 4:
            spikes = self.activation(self.stem(images), constant=True)
        elif len(images) == self.steps:
            spikes = self.activation(self.stem(images.flatten(0, 1)))
        else:
            raise ValueError(f"expected {self.steps} frames [T, B, C, H, W], one per time step, found {len(images)}")
        maps = self.body(spikes)
        logits = self.readout(self.pool(maps).flatten(1))
        return Output(logits.unflatten(0, (self.steps, -1)), maps.unflatten(0, (self.steps, -1)))

    def spiking_layers(self) -> dict[str, nn.Module]:
        """Return the spiking layers by module name, in the order of construction; see `is_spiking`.

        What is inside a spiking layer is a part of it.
        """
        found: dict[str, nn.Module] = {}
        for name, module in self.named_modules():
            if is_spiking(module) and not name.startswith(tuple(f"{outer}." for outer in found)):
                found[name] = module
        return found


_NEURONS = {
    "spikingjelly": ("BaseNode",),
    "snntorch": ("SpikingNeuron",),
    "norse": ("SNN", "SNNCell", "SNNRecurrent", "SNNRecurrentCell"),
}
"""The base classes of the neurons of other libraries."""
_WITHOUT_SPIKES = ("LI", "LICell", "LILinearCell", "LIBoxCell")


def is_spiking(module: nn.Module) -> bool:
    """Return whether a module's output, or the first of its outputs, are spikes.

    It says so by its attribute `spiking`, as `LIF` does, or is a neuron of spikingjelly, snntorch or norse.
    """
    said = getattr(module, "spiking", None)
    if said is not None:
        return bool(said)
    if type(module).__name__ in _WITHOUT_SPIKES:
        return False
    bases = ((base.__module__.partition(".")[0], base.__name__) for base in type(module).__mro__)
    return any(name in _NEURONS.get(library, ()) for library, name in bases)


@dataclass(frozen=True)
class LayerFactory:
    """Creates the layers of a body for one network configuration and its neuron."""

    config: NetworkConfig
    neuron: NeuronConfig

    @property
    def steps(self) -> int:
        """Number of time steps: 1 with ReLU."""
        return 1 if self.neuron.kind == "relu" else self.config.time_steps

    def activation(self) -> nn.Module:
        """Return a layer of neurons (or of ReLU)."""
        n = self.neuron
        if n.kind == "relu":
            return nn.ReLU()
        if is_import_path(n.kind):
            return own_neuron(n, self.steps)
        kind = PLIF if n.kind == "plif" else LIF
        surrogate = with_arguments(n.surrogate, n.surrogate_arguments)
        return kind(self.steps, n.threshold, n.decay, n.reset, surrogate, n.width, n.detach_reset, n.scale_input)

    def norm(self, channels: int, summands: int = 1) -> nn.BatchNorm2d:
        """Return a batch norm whose output is one of `summands` currents that are added before a neuron.

        tdBN (Zheng et al. 2021, "Going deeper with directly-trained larger spiking neural networks") scales the
        normalised current by threshold/√summands, which is the initial value of its weight.
        """
        norm = nn.BatchNorm2d(channels)
        if self.config.norm == "tdbn" and self.neuron.kind != "relu":
            nn.init.constant_(norm.weight, self.neuron.threshold / math.sqrt(summands))
        return norm

    def stem_stride(self, side: int) -> int:
        """Return the stem's stride for images of this side: the configured one, else 1, from 64 on 2, from 128 on 4."""
        if self.config.stem_stride is not None:
            return self.config.stem_stride
        return 1 if side < 64 else 2 if side < 128 else 4


def conv(inputs: int, outputs: int, side: int = 3, stride: int = 1) -> nn.Conv2d:
    """Return a convolution without bias that keeps the map's side at stride 1.

    Weights have PyTorch's default initialisation, uniform with variance 1 / (3 · inputs · side²). Before a batch norm
    their scale only determines the effective learning rate: with He's variance, six times as large, it would be a
    sixth, which lowers the accuracy of short trainings.
    """
    return nn.Conv2d(inputs, outputs, side, stride, side // 2, bias=False)


@contextmanager
def evaluating(network: nn.Module, hooks: Iterable[RemovableHandle] = ()) -> Iterator[None]:
    """Have a network in evaluation mode, without gradients; then its mode is restored, and the hooks are removed."""
    training = network.training
    network.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for hook in hooks:
            hook.remove()
        network.train(training)
