"""Metrics of NeuroBench that are not counts of operations, which `supersnn.operations` has.

Names, and definitions but for membrane updates (see `neurobench`), are those of version 2 (Yik et al. 2025, "The
neurobench framework for benchmarking neuromorphic computing algorithms and systems"): footprint and connection sparsity
of the weights, activation sparsity and membrane updates of the spiking layers. Biases and normalisations count in the
footprint, as all parameters and buffers do.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from supersnn.augment import normalise
from supersnn.data import Images
from supersnn.layer_calls import Calls, StepSums, calls_of, known, values_of
from supersnn.networks.base import Network
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


class _Spikes:
    """Counts of spiking layers together, over the batches of an evaluation.

    Attributes:
        values: neurons and time steps.
        fired: those with a spike.
        later: spikes after the first step.

    Args:
        steps: of the network.
        calls: how each layer is called; None where that is not known, then there is no `later`.
    """

    def __init__(self, steps: int, calls: Mapping[str, Calls] | None) -> None:
        self._steps, self._calls = steps, calls
        self._sums: StepSums | None = None
        self._once = 0
        self.values = self.fired = self.later = 0

    def start(self, batch: int, device: torch.device) -> None:
        """Expect a batch of so many images."""
        self._sums = None if self._calls is None else StepSums(self._steps, batch, self._calls, device)

    def add(self, name: str, output: Tensor) -> None:
        """Count one call of a layer."""
        fired = output != 0
        self.values += output.numel()
        self.fired += int(fired.count_nonzero())
        if self._calls is not None and self._sums is not None:
            self._once += output.numel() if self._calls[name].kind == "once" else 0
            self._sums.add(name, fired)

    def end(self) -> None:
        """End a batch."""
        if self._sums is not None:
            self.later += int(self._sums.sums[1:].sum())

    def membrane_updates(self) -> int | None:
        """Return the updates, see `neurobench`; None if it is not known how the layers are called."""
        if self._calls is None:
            return None
        return self._once + (self.values - self._once) // self._steps + self.later


def neurobench(
    network: Network, images: Images, mean: Sequence[float], std: Sequence[float], batch_size: int = 256
) -> dict[str, float]:
    """Return the metrics by their keys in `supersnn.records.metrics`; those of spikes only where there are any.

    Membrane updates of an image are one for each neuron at the first step and one for each spike afterwards, which
    resets a potential. NeuroBench's package, which sees the potentials of snntorch's neurons alone, finds more: those
    that differ from the step before, so that decays and currents count too. Membrane updates are left out for a plain
    module with neurons whose calls cannot be told apart by time step (`supersnn.layer_calls`).

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
    counts = _counted(network, layers, lambda pixels: normalise(pixels, mean, std), images, batch_size)
    found[ACTIVATION_SPARSITY.key] = 1 - counts.fired / counts.values
    if (updates := counts.membrane_updates()) is not None:
        found[MEMBRANE_UPDATES.key] = updates / len(images)
    return found


def _counted(
    network: Network,
    layers: Mapping[str, nn.Module],
    prepare: Callable[[Tensor], Tensor],
    images: Images,
    batch_size: int,
) -> _Spikes:
    calls = known(calls_of(network, layers, images.pixels.shape[1:], "outputs"))
    counts, training = _Spikes(network.steps, calls), network.training
    device = next(network.parameters()).device

    def counting(name: str) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        return lambda _layer, inputs, output: counts.add(name, values_of("outputs", inputs, output))

    hooks = [layer.register_forward_hook(counting(name)) for name, layer in layers.items()]
    try:
        network.eval()
        with torch.no_grad():
            for pixels in images.pixels.split(batch_size):
                counts.start(len(pixels), device)
                network(prepare(pixels).to(device))
                counts.end()
    finally:
        for hook in hooks:
            hook.remove()
        network.train(training)
    return counts
