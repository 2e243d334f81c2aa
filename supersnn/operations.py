"""Cost of one inference: multiply-accumulates, synaptic operations, and an energy estimate."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from supersnn.networks.base import ImageShape, Network

# Horowitz, "Computing's energy problem (and what we can do about it)", ISSCC 2014: 32-bit floating point at
# 45 nm, a multiplication 3.7 pJ and an addition 0.9 pJ.
MAC_PJ = 4.6
AC_PJ = 0.9


@dataclass(frozen=True)
class Operations:
    """Operations for one image: multiply-accumulates, synaptic operations (accumulates), and energy in nanojoules."""

    mac: float
    synaptic: float
    energy_nj: float


def layer_macs(network: Network, shape: ImageShape) -> dict[str, int]:
    """Return the multiply-accumulates for one image in each convolution and linear layer, in the order they run.

    A convolution has output positions times output channels times fan-in, a linear layer outputs times fan-in; both
    times the number of runs per image: once for a stem with the same image at every step, T times for every later
    layer. Batch norms (folded into the preceding convolution), biases and the neurons' updates are not counted.
    """
    macs: dict[str, int] = {}

    def counting(name: str, layer: nn.Conv2d | nn.Linear) -> Any:
        fan_in = layer.weight[0].numel()
        return layer.register_forward_hook(
            lambda _layer, _inputs, output: macs.update({name: macs.get(name, 0) + output.numel() * fan_in})
        )

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
    return macs


def weighted_layers(network: nn.Module) -> list[tuple[str, nn.Conv2d | nn.Linear]]:
    """Return the convolutions and linear layers with their names."""
    return [(name, layer) for name, layer in network.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)]


def count(
    network: Network,
    shape: ImageShape,
    density: Mapping[str, float],
    mac_pj: float = MAC_PJ,
    ac_pj: float = AC_PJ,
) -> Operations:
    """Return the mean number of operations per image.

    Without spiking layers every operation is a multiply-accumulate. In a spiking network this holds for the first
    layer, whose input is the image. Later layers add a weight only where their input is not zero: their synaptic
    operations are the multiply-accumulates over all T steps times the density of the input. A mean of spikes (after an
    average pooling) counts once where it is not zero; hardware without multiplication would add once for every spike
    in it.

    Args:
        network: in the form it runs in.
        shape: of its images.
        density: share of non-zero input values by layer name (`evaluation.evaluate`).
        mac_pj: energy of a multiply-accumulate in picojoules.
        ac_pj: energy of an accumulate in picojoules.
    """
    macs = layer_macs(network, shape)
    first = next(iter(macs))
    spiking = bool(network.spiking_layers())
    dense = {name for name in macs if not spiking or name == first}
    mac = float(sum(macs[name] for name in dense))
    synaptic = float(sum(macs[name] * density[name] for name in macs if name not in dense))
    return Operations(mac, synaptic, (mac * mac_pj + synaptic * ac_pj) / 1000)
