"""Cost of one inference: synaptic operations, multiply-accumulates, and an energy estimate.

A non-zero input value costs one operation for each output that it feeds with a weight other than zero; zeros of a
padding feed nothing. NeuroBench counts effective operations so (Yik et al. 2025, "The neurobench framework for
benchmarking neuromorphic computing algorithms and systems"). Its figures are returned beside ours, which differ in what
an average of spikes is.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from supersnn.networks.base import ImageShape, Network, evaluating

# Horowitz, "Computing's energy problem (and what we can do about it)", ISSCC 2014: 32-bit floating point at
# 45 nm, a multiplication 3.7 pJ and an addition 0.9 pJ.
MAC_PJ = 4.6
AC_PJ = 0.9


@dataclass(frozen=True)
class LayerInputs:
    """The inputs of a convolution or linear layer, over the images of an evaluation.

    Attributes:
        density: share of the values that are not zero.
        operations: effective operations per image: for each non-zero value, the number of outputs that it feeds with a
            weight other than zero.
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
        synaptic: synaptic operations: one for each non-zero input of a later layer and output that it feeds with a
            weight other than zero. An average of spikes (behind a pooling) counts once where it is not zero.
        energy_nj: energy in nanojoules, estimated from these two.
        effective_acs, effective_macs: NeuroBench's: accumulates where all inputs of a layer are spikes, else
            multiply-accumulates, so that averages of spikes multiply; zeros, of inputs and weights, count in neither.
        dense: NeuroBench's: the operations of all inputs and weights, zeros included, at every time step.
    """

    mac: float
    synaptic: float
    energy_nj: float
    effective_acs: float | None = None
    effective_macs: float | None = None
    dense: float | None = None


def fan_out(layer: nn.Conv2d | nn.Linear, inputs: torch.Size, zeros: bool = False) -> Tensor:
    """Return the number of outputs that each input value feeds, padding left out.

    Args:
        layer: a convolution with zero padding, or a linear layer.
        inputs: the shape of its inputs, [..., C, H, W] or [..., F].
        zeros: whether weights of zero count too.

    Returns:
        float64 [C, H, W] or [F], on the layer's device.
    """
    found = (synapses(layer, zeros) @ reach(layer, inputs).flatten(1)).flatten()
    return found.unflatten(0, inputs[-3:]) if isinstance(layer, nn.Conv2d) else found


def synapses(layer: nn.Conv2d | nn.Linear, zeros: bool = False) -> Tensor:
    """Return the number of weights other than zero (with `zeros`: of all) from each input channel at each place of K.

    Returns:
        float64 [C, K] with the places of the kernel, or [F, 1] of a linear layer.
    """
    weight = layer.weight.detach()
    counted = torch.ones_like(weight, dtype=torch.float64) if zeros else (weight != 0).double()
    if isinstance(layer, nn.Linear):
        return counted.sum(0).unsqueeze(1)
    return counted.unflatten(0, (layer.groups, -1)).sum(1).flatten(0, 1).flatten(1)


def reach(layer: nn.Conv2d | nn.Linear, inputs: torch.Size) -> Tensor:
    """Return how many outputs of a channel read each position through each place of the kernel, padding left out.

    Returns:
        float64 [K, H, W], or [1, 1] for a linear layer, on the layer's device.
    """
    device = layer.weight.device
    if isinstance(layer, nn.Linear):
        return torch.ones(1, 1, dtype=torch.float64, device=device)
    places = layer.kernel_size[0] * layer.kernel_size[1]
    kernel = torch.eye(places, dtype=torch.float64, device=device).unflatten(1, (1, *layer.kernel_size))
    one = torch.ones(1, places, *inputs[-2:], dtype=torch.float64, device=device, requires_grad=True)
    with torch.enable_grad():
        sums = torch.conv2d(one, kernel, None, layer.stride, layer.padding, layer.dilation, places).sum()
    (found,) = torch.autograd.grad(sums, one)
    return found[0]


def dense_operations(network: Network, shape: ImageShape) -> dict[str, int]:
    """Return the operations of one image in each convolution and linear layer, in the order they run.

    Every input value counts with its fan-out, times the number of runs per image: once for a stem with the same image
    at every step, T times for every later layer. Batch norms (folded into the preceding convolution), biases and the
    neurons' updates are not counted.
    """
    operations: dict[str, int] = {}

    def counting(name: str, layer: nn.Conv2d | nn.Linear) -> Any:
        def count_inputs(_layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            taps = fan_out(layer, inputs[0].shape, zeros=True)
            repeats = inputs[0].numel() // taps.numel()
            operations[name] = operations.get(name, 0) + repeats * int(taps.sum())

        return layer.register_forward_pre_hook(count_inputs)

    hooks = [counting(name, layer) for name, layer in weighted_layers(network)]
    with evaluating(network, hooks):
        network(torch.zeros(1, shape.channels, shape.side, shape.side, device=next(network.parameters()).device))
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
