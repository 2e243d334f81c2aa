"""Metrics of NeuroBench that are not counts of operations, which `supersnn.operations` has.

Definitions and names are those of version 2 (Yik et al. 2025, "The neurobench framework for benchmarking neuromorphic
computing algorithms and systems"): footprint and connection sparsity of the weights, activation sparsity and membrane
updates of the spiking layers. Biases and normalisations count in the footprint, as all parameters and buffers do.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from supersnn.augment import normalise
from supersnn.data import Images
from supersnn.networks.base import Network
from supersnn.operations import weighted_layers
from supersnn.records.metrics import ACTIVATION_SPARSITY, CONNECTION_SPARSITY, FOOTPRINT, MEMBRANE_UPDATES


def footprint(network: nn.Module) -> int:
    """Return the bytes of all parameters and buffers."""
    return sum(tensor.numel() * tensor.element_size() for tensor in (*network.parameters(), *network.buffers()))


def connection_sparsity(network: nn.Module) -> float:
    """Return the share of zeros among the weights of convolutions and linear layers."""
    weights = [layer.weight for _, layer in weighted_layers(network)]
    return sum(int((weight == 0).sum()) for weight in weights) / sum(weight.numel() for weight in weights)


class _Spikes:
    """Counts of all spiking layers together: neurons and time steps, spikes, and those after the first step."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self.neurons = self.spikes = self.later = 0

    def add(self, _layer: nn.Module, _inputs: tuple[Tensor, ...], output: Any) -> None:
        output = output if isinstance(output, Tensor) else output[0]
        by_step = output.unflatten(0, (self._steps, -1)).flatten(1).count_nonzero(1).tolist()
        self.neurons += output.numel() // self._steps
        self.spikes += sum(by_step)
        self.later += sum(by_step[1:])


def neurobench(
    network: Network, images: Images, mean: Sequence[float], std: Sequence[float], batch_size: int = 256
) -> dict[str, float]:
    """Return the metrics by their keys in `supersnn.records.metrics`; those of spikes only where there are any.

    Membrane updates of an image are one for each neuron at the first step and one for each spike afterwards, which
    resets a potential: NeuroBench counts the potentials that firing has changed.

    Args:
        network: its mode is restored.
        images: to measure on.
        mean: of each channel, as in training.
        std: of each channel.
        batch_size: images at once; it does not change the result.
    """
    found = {FOOTPRINT.key: float(footprint(network)), CONNECTION_SPARSITY.key: connection_sparsity(network)}
    layers = network.spiking_layers()
    if not layers:
        return found
    counts = _counted(network, list(layers), lambda pixels: normalise(pixels, mean, std), images, batch_size)
    return found | {
        ACTIVATION_SPARSITY.key: 1 - counts.spikes / (counts.neurons * network.steps),
        MEMBRANE_UPDATES.key: (counts.neurons + counts.later) / len(images),
    }


def _counted(
    network: Network, layers: list[str], prepare: Callable[[Tensor], Tensor], images: Images, batch_size: int
) -> _Spikes:
    counts, training = _Spikes(network.steps), network.training
    device = next(network.parameters()).device
    hooks = [network.get_submodule(name).register_forward_hook(counts.add) for name in layers]
    try:
        network.eval()
        with torch.no_grad():
            for pixels in images.pixels.split(batch_size):
                network(prepare(pixels).to(device))
    finally:
        for hook in hooks:
            hook.remove()
        network.train(training)
    return counts
