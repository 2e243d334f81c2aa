"""Cost of one inference: synaptic operations, multiply-accumulates, and an energy estimate.

A non-zero input value costs one operation for each output that it feeds; zeros of a padding feed nothing. NeuroBench
counts effective operations so (Yik et al. 2025, "The neurobench framework for benchmarking neuromorphic computing
algorithms and systems"). Its figures are returned beside ours, which differ in what an average of spikes is.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from supersnn.networks.base import ImageShape, Network

# Horowitz, "Computing's energy problem (and what we can do about it)", ISSCC 2014: 32-bit floating point at
# 45 nm, a multiplication 3.7 pJ and an addition 0.9 pJ.
MAC_PJ = 4.6
AC_PJ = 0.9


@dataclass(frozen=True)
class LayerInputs:
    """The inputs of a convolution or linear layer, over the images of an evaluation.

    Attributes:
        density: share of the values that are not zero.
        operations: effective operations per image: for each non-zero value, the number of outputs that it feeds.
        binary: whether all values are spikes (0 or 1, or -1), so that an operation is an accumulate.
    """

    density: float
    operations: float
    binary: bool


@dataclass(frozen=True)
class Operations:
    """Operations for one image; those that files of earlier versions lack are None.

    Attributes:
        mac: multiply-accumulates: of the first layer, whose input is the image; of all layers without spiking ones.
        synaptic: synaptic operations: one for each non-zero input of a later layer and output that it feeds. An average
            of spikes (behind a pooling) counts once where it is not zero.
        energy_nj: energy in nanojoules, estimated from these two.
        effective_acs, effective_macs: NeuroBench's: accumulates where all inputs of a layer are spikes, else
            multiply-accumulates, so that averages of spikes multiply; zeros count in neither.
        dense: NeuroBench's: the operations of all inputs, zeros included, at every time step.
    """

    mac: float
    synaptic: float
    energy_nj: float
    effective_acs: float | None = None
    effective_macs: float | None = None
    dense: float | None = None


def fan_out(layer: nn.Conv2d | nn.Linear, inputs: torch.Size) -> Tensor:
    """Return the number of outputs that each input value feeds, padding left out.

    Args:
        layer: a convolution with zero padding, or a linear layer.
        inputs: the shape of its inputs, [..., C, H, W] or [..., F].

    Returns:
        float64 [H, W], the same for each channel, or a scalar.
    """
    if isinstance(layer, nn.Linear):
        return torch.tensor(float(layer.out_features), dtype=torch.float64)
    one = torch.ones(1, 1, *inputs[-2:], dtype=torch.float64, requires_grad=True)
    kernel = torch.ones(1, 1, *layer.kernel_size, dtype=torch.float64)
    with torch.enable_grad():
        sums = torch.conv2d(one, kernel, None, layer.stride, layer.padding, layer.dilation).sum()
    (taps,) = torch.autograd.grad(sums, one)
    return taps[0, 0] * (layer.out_channels // layer.groups)


def dense_operations(network: Network, shape: ImageShape) -> dict[str, int]:
    """Return the operations of one image in each convolution and linear layer, in the order they run.

    Every input value counts with its fan-out, times the number of runs per image: once for a stem with the same image
    at every step, T times for every later layer. Batch norms (folded into the preceding convolution), biases and the
    neurons' updates are not counted.
    """
    operations: dict[str, int] = {}

    def counting(name: str, layer: nn.Conv2d | nn.Linear) -> Any:
        def count_inputs(_layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            taps = fan_out(layer, inputs[0].shape)
            repeats = inputs[0].numel() // taps.numel()
            operations[name] = operations.get(name, 0) + repeats * int(taps.sum())

        return layer.register_forward_pre_hook(count_inputs)

    hooks = [counting(name, layer) for name, layer in weighted_layers(network)]
    training, device = network.training, next(network.parameters()).device
    try:
        network.eval()
        with torch.no_grad():
            network(torch.zeros(1, shape.channels, shape.side, shape.side, device=device))
    finally:
        for hook in hooks:
            hook.remove()
        network.train(training)
    return operations


def weighted_layers(network: nn.Module) -> list[tuple[str, nn.Conv2d | nn.Linear]]:
    """Return the convolutions and linear layers with their names."""
    return [(name, layer) for name, layer in network.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)]


def count(
    network: Network,
    shape: ImageShape,
    inputs: Mapping[str, LayerInputs],
    mac_pj: float = MAC_PJ,
    ac_pj: float = AC_PJ,
    dense: Mapping[str, int] | None = None,
) -> Operations:
    """Return the mean number of operations per image; see `Operations`.

    Without spiking layers every operation is a multiply-accumulate, zeros included: that is what a processor without
    sparsity does. Hardware without multiplication would add once for every spike in an average.

    Args:
        network: in the form it runs in.
        shape: of its images.
        inputs: of its layers by name (`evaluation.evaluate`).
        mac_pj: energy of a multiply-accumulate in picojoules.
        ac_pj: energy of an accumulate in picojoules.
        dense: the network's `dense_operations`, where they are known.
    """
    dense = dense_operations(network, shape) if dense is None else dense
    first = next(iter(dense))
    spiking = bool(network.spiking_layers())
    mac = float(dense[first] if spiking else sum(dense.values()))
    synaptic = sum(layer.operations for name, layer in inputs.items() if name != first) if spiking else 0.0
    return Operations(
        mac=mac,
        synaptic=synaptic,
        energy_nj=(mac * mac_pj + synaptic * ac_pj) / 1000,
        effective_acs=sum(layer.operations for layer in inputs.values() if layer.binary),
        effective_macs=sum(layer.operations for layer in inputs.values() if not layer.binary),
        dense=float(sum(dense.values())),
    )
