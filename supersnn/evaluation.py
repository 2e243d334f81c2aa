"""Evaluation of a network: accuracy, loss, firing rates, and the inputs of every layer."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from supersnn.augment import normalise
from supersnn.data import Images
from supersnn.networks.base import Network
from supersnn.operations import LayerInputs, fan_out, weighted_layers


@dataclass(frozen=True)
class Evaluation:
    """Evaluation of a network on a set of images; accuracies and rates are fractions.

    per_class: accuracies; None for a class without images.
    rate: mean firing rate, the share of neurons and time steps with a spike, over all spiking layers; None without
        spiking layers.
    rates: the same by spiking layer.
    inputs: of the convolutions and linear layers by name.
    """

    images: int
    accuracy: float
    top5: float
    loss: float
    per_class: tuple[float | None, ...]
    rate: float | None
    rates: dict[str, float]
    inputs: dict[str, LayerInputs]


class _InputTally:
    """Count of the non-zero inputs of one layer by position, kept on the device."""

    def __init__(self, layer: nn.Conv2d | nn.Linear) -> None:
        self._layer = layer
        self._nonzero: Tensor | float = 0.0
        self._binary: Tensor | bool = True
        self._values = 0
        self._shape = torch.Size()

    def add(self, inputs: Tensor) -> None:
        signs = inputs.sign()
        self._binary = self._binary & (signs == inputs).all()
        # The channels are summed first: a sum over both dimensions of a channels-last map is slower.
        ones = signs.abs_()
        by_position = ones.sum(1).sum(0) if ones.dim() == 4 else ones.sum()
        self._nonzero = self._nonzero + by_position.double()
        self._values += inputs.numel()
        self._shape = inputs.shape

    def inputs(self, images: int) -> LayerInputs:
        """Return what was counted over so many images."""
        nonzero = torch.as_tensor(self._nonzero).cpu()
        operations = float((nonzero * fan_out(self._layer, self._shape)).sum()) / images if self._values else 0.0
        density = float(nonzero.sum()) / self._values if self._values else 0.0
        return LayerInputs(density, operations, bool(self._binary))


class _Tally:
    """Count of the spikes of one layer, kept on the device."""

    def __init__(self) -> None:
        self.nonzero: Tensor | float = 0.0
        self.values = 0

    def add(self, activations: Tensor) -> None:
        # On a CPU this is five times faster than count_nonzero, and as exact up to 2^24 in a batch.
        self.nonzero = self.nonzero + activations.sign().abs_().sum().double()
        self.values += activations.numel()

    @property
    def share(self) -> float:
        return float(self.nonzero) / self.values if self.values else 0.0


@contextmanager
def _counting(network: Network) -> Iterator[tuple[dict[str, _Tally], dict[str, _InputTally]]]:
    """Count spikes after the spiking layers and non-zero inputs of the weighted layers, during the block."""
    spikes = {name: _Tally() for name in network.spiking_layers()}
    inputs = {name: _InputTally(layer) for name, layer in weighted_layers(network)}

    def after(tally: _Tally) -> Callable[[nn.Module, Any, Tensor], None]:
        return lambda _layer, _inputs, output: tally.add(output)

    def before(tally: _InputTally) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda _layer, inputs: tally.add(inputs[0])

    hooks = [network.get_submodule(name).register_forward_hook(after(tally)) for name, tally in spikes.items()]
    hooks += [network.get_submodule(name).register_forward_pre_hook(before(tally)) for name, tally in inputs.items()]
    try:
        yield spikes, inputs
    finally:
        for hook in hooks:
            hook.remove()


def evaluate(
    network: Network, images: Images, mean: Sequence[float], std: Sequence[float], batch_size: int = 256
) -> Evaluation:
    """Evaluate the network on images, in evaluation mode and in full precision.

    Args:
        network: its mode and hooks are restored.
        images: pixels uint8 [N, C, H, W] and labels int64 [N]; N of at least 1.
        mean: of each channel, as in training.
        std: of each channel.
        batch_size: changes the result by rounding errors only.
    """
    device = next(network.parameters()).device
    training = network.training
    logits: list[Tensor] = []
    network.eval()
    try:
        with torch.no_grad(), _counting(network) as (spikes, inputs):
            for pixels in images.pixels.split(batch_size):
                logits.append(network(normalise(pixels.to(device), mean, std)).logits.float().mean(0))
    finally:
        network.train(training)
    scores, labels = torch.cat(logits), images.labels.to(device)
    classes = scores.shape[1]
    right = scores.argmax(1) == labels
    among_five = (scores.topk(min(5, classes)).indices == labels[:, None]).any(1)
    sizes = torch.bincount(labels, minlength=classes).tolist()
    hits = torch.bincount(labels[right], minlength=classes).tolist()
    fired, steps = sum(float(t.nonzero) for t in spikes.values()), sum(t.values for t in spikes.values())
    return Evaluation(
        images=len(labels),
        accuracy=sum(hits) / len(labels),
        top5=int(among_five.sum()) / len(labels),
        loss=float(functional.cross_entropy(scores, labels)),
        per_class=tuple(hit / n if n else None for hit, n in zip(hits, sizes, strict=True)),
        rate=fired / steps if steps else None,
        rates={name: tally.share for name, tally in spikes.items()},
        inputs={name: tally.inputs(len(labels)) for name, tally in inputs.items()},
    )
