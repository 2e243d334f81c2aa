"""Metrics of NeuroBench that are not counts of operations, which `supersnn.operations` has.

Names and definitions are those of version 2 (Yik et al. 2025, "The neurobench framework for benchmarking neuromorphic
computing algorithms and systems") and of its package: footprint and connection sparsity of the weights, activation
sparsity and membrane updates of the spiking layers. Biases and normalisations count in the footprint, as all parameters
and buffers do.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from supersnn.augment import normalise
from supersnn.data import Images
from supersnn.networks.base import Network, evaluating
from supersnn.neurons import LIF, counts_itself
from supersnn.operations import weighted_layers
from supersnn.records.metrics import ACTIVATION_SPARSITY, CONNECTION_SPARSITY, FOOTPRINT, MEMBRANE_UPDATES


def footprint(network: nn.Module) -> int:
    """Return the bytes of all parameters and buffers, but for potentials that some libraries' neurons keep in one.

    Those are no part of the network's state dict, and as large as the latest batch.
    """
    stored = network.state_dict()
    buffers = [buffer for name, buffer in network.named_buffers() if name in stored]
    return sum(tensor.numel() * tensor.element_size() for tensor in (*network.parameters(), *buffers))


def connection_sparsity(network: nn.Module) -> float:
    """Return the share of zeros among the weights of convolutions and linear layers."""
    weights = [layer.weight for _, layer in weighted_layers(network)]
    return sum(int((weight == 0).sum()) for weight in weights) / sum(weight.numel() for weight in weights)


def membrane_updates(layer: LIF, current: Tensor, spikes: Tensor) -> int:
    """Return how many of a layer's potentials differ from those a step before; at the first step each counts.

    A potential is what is left after a step, its reset included.

    Args:
        layer: its steps, decay, threshold and reset are used.
        current: that it was given, [T·B, ...], or [B, ...] if it was the same at all steps.
        spikes: that it returned, [T·B, ...].
    """
    fired = spikes.unflatten(0, (layer.steps, -1))
    driven = current * (1 - layer.decay) if layer.scale_input else current
    currents = driven.expand_as(fired) if driven.shape == fired.shape[1:] else driven.unflatten(0, (layer.steps, -1))
    updates, before = fired[0].numel(), torch.zeros_like(fired[0])
    for step, (now, spike) in enumerate(zip(currents, fired, strict=True)):
        charged = layer.decay * before + now
        after = charged * (1 - spike) if layer.reset == "hard" else charged - layer.threshold * spike
        updates += int((after != before).sum()) if step else 0
        before = after
    return updates


def neurobench(
    network: Network, images: Images, mean: Sequence[float], std: Sequence[float], batch_size: int = 256
) -> dict[str, float]:
    """Return the metrics by their keys in `supersnn.records.metrics`; those of spikes only where there are any.

    Membrane updates of an image are those of `membrane_updates`. They are left out where a layer has neurons that are
    not this project's, whose potentials are not known.

    Args:
        network: its mode is restored.
        images: to measure on.
        mean: of each channel, as in training.
        std: of each channel.
        batch_size: images at once; it does not change the result.
    """
    found = {FOOTPRINT.key: float(footprint(network)), CONNECTION_SPARSITY.key: connection_sparsity(network)}
    layers = list(network.spiking_layers().values())
    if not layers:
        return found
    counts, device = _Counts(layers), next(network.parameters()).device
    with evaluating(network, counts.hooks):
        for pixels in images.pixels.split(batch_size):
            network(normalise(pixels, mean, std).to(device))
    found[ACTIVATION_SPARSITY.key] = 1 - counts.fired / counts.values
    if all(map(counts_itself, layers)):
        found[MEMBRANE_UPDATES.key] = counts.updates / len(images)
    return found


class _Counts:
    """Counts of spiking layers together.

    Attributes:
        values: neurons and time steps.
        fired: those with a spike.
        updates: see `membrane_updates`; of the layers alone whose potentials are known.
        hooks: of the layers, by which they are counted.
    """

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        self.values = self.fired = self.updates = 0
        self._currents: dict[nn.Module, Tensor] = {}
        self.hooks: list[RemovableHandle] = []
        for layer in layers:
            if counts_itself(layer):
                self.hooks.append(layer.register_forward_pre_hook(self._keep))
            self.hooks.append(layer.register_forward_hook(self._add))

    def _keep(self, layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        self._currents[layer] = inputs[0].clone()  # the layer overwrites it

    def _add(self, layer: nn.Module, _inputs: tuple[Any, ...], output: Any) -> None:
        spikes: Tensor = output if isinstance(output, Tensor) else output[0]  # some layers return their state too
        self.values += spikes.numel()
        self.fired += int(spikes.count_nonzero())
        if counts_itself(layer):
            self.updates += membrane_updates(layer, self._currents.pop(layer), spikes)
