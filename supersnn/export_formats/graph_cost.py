"""What a graph is worth on some images: its classes, spikes, operations and energy, run step by step.

It runs integer weights (`quantised`) and floats alike, in double precision, in which sums of integers are exact.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn import functional

from supersnn.augment import normalise
from supersnn.data import Images
from supersnn.export_formats.graph import (
    INPUT,
    Affine,
    Convolution,
    Flatten,
    Graph,
    Neurons,
    Node,
    SumPool,
    UnsupportedLayerError,
)
from supersnn.export_formats.portable import without_averages
from supersnn.operations import AC_PJ, MAC_PJ


@dataclass(frozen=True)
class Measured:
    """What a graph is worth on some images: fractions, and means of an image.

    accuracy: share of the images with the right class.
    rate: mean firing rate over all neurons and steps.
    synaptic_ops: one for each spike and output that it feeds.
    energy_nj: estimated from these and the first layer's multiply-accumulates, as `supersnn.operations` does.
    right: bool [N], whether each image's class is right.
    """

    accuracy: float
    rate: float
    synaptic_ops: float
    energy_nj: float
    right: Tensor = field(compare=False, repr=False)


def measured(
    graph: Graph, images: Images, mean: Sequence[float], std: Sequence[float], batch_size: int = 64
) -> Measured:
    """Run a graph on the images' device and return what it is worth on them.

    Raises:
        UnsupportedLayerError: it has a layer without spikes, or an average that is read by other than linear layers.
    """
    device = images.pixels.device
    graph = _in_double(without_averages(graph), device)
    right, fired, neurons, synaptic = [], 0.0, 0, 0.0
    fan_outs = {name: _fan_out(graph, name) for name, node in graph.nodes.items() if isinstance(node.layer, Neurons)}
    for pixels, labels in zip(images.pixels.split(batch_size), images.labels.split(batch_size), strict=True):
        potentials: dict[str, Tensor] = {}
        logits = torch.zeros((), dtype=torch.float64, device=device)
        image = normalise(pixels, mean, std).double()
        for _ in range(graph.steps):
            values = {INPUT: image}
            for name, node in graph.nodes.items():
                total = torch.stack([values[source] for source in node.sources]).sum(0)
                values[name] = _step(node, total, potentials, name)
                if name in fan_outs:
                    fired, neurons = fired + float(values[name].sum()), neurons + values[name].numel()
                    synaptic += float((values[name] * fan_outs[name]).sum())
            logits = logits + values[list(graph.nodes)[-1]]
        right.append((logits.argmax(1) == labels).cpu())
    found, count = torch.cat(right), len(images)
    energy = (_first_macs(graph, device) * MAC_PJ + synaptic / count * AC_PJ) / 1000
    return Measured(float(found.double().mean()), fired / max(1, neurons), synaptic / count, energy, found)


def _in_double(graph: Graph, device: torch.device) -> Graph:
    """Return the graph with its weights in double precision on a device."""

    def moved(node: Node) -> Node:
        if not isinstance(node.layer, Convolution | Affine):
            return node
        weight, bias = (tensor.to(device, torch.float64) for tensor in (node.layer.weight, node.layer.bias))
        return replace(node, layer=replace(node.layer, weight=weight, bias=bias))

    return replace(graph, nodes={name: moved(node) for name, node in graph.nodes.items()})


def _first_macs(graph: Graph, device: torch.device) -> float:
    """Return the multiply-accumulates of the first layer, whose input is the image."""
    layer = next(node.layer for node in graph.nodes.values() if isinstance(node.layer, Convolution))
    ones = torch.ones(1, *graph.shape, dtype=torch.float64, device=device)
    counted = replace(layer, weight=torch.ones_like(layer.weight), bias=torch.zeros_like(layer.bias))
    return float(_convolved(counted, ones).sum())


def _step(node: Node, x: Tensor, potentials: dict[str, Tensor], name: str) -> Tensor:
    match node.layer:
        case Convolution():
            return _convolved(node.layer, x)
        case Affine():
            return functional.linear(x, node.layer.weight, node.layer.bias)
        case SumPool():
            return functional.avg_pool2d(x, node.layer.window, node.layer.stride, divisor_override=1)
        case Flatten():
            return x.flatten(1)
        case Neurons():
            layer = node.layer
            u = layer.decay * potentials.get(name, torch.zeros_like(x)) + layer.gain * x
            spikes = (u >= layer.threshold).double()
            potentials[name] = u * (1 - spikes) if layer.reset == "hard" else u - layer.threshold * spikes
            return spikes
        case other:
            raise UnsupportedLayerError(f"{name}: {type(other).__name__} cannot be run with integers")


def _convolved(layer: Convolution, x: Tensor) -> Tensor:
    options = layer.stride, layer.padding, layer.dilation, layer.groups
    return functional.conv2d(x, layer.weight, layer.bias, *options)


def _fan_out(graph: Graph, name: str) -> Tensor:
    """Return the outputs that a spike feeds with a weight other than zero, by its place in a layer's output."""
    device = next(node.layer.weight.device for node in graph.nodes.values() if isinstance(node.layer, Convolution))
    spikes = torch.zeros(1, *graph.nodes[name].shape, dtype=torch.float64, device=device, requires_grad=True)
    (found,) = torch.autograd.grad(spikes.sum() * 0 + _fed(graph, name, spikes), spikes)
    return found[0]


def _fed(graph: Graph, name: str, spikes: Tensor) -> Tensor | float:
    """Return the outputs that the spikes of a layer feed, behind poolings and flattenings too."""
    fed: Tensor | float = 0.0
    for reader, node in graph.nodes.items():
        if name not in node.sources:
            continue
        if isinstance(node.layer, SumPool | Flatten):
            fed = fed + _fed(graph, reader, _step(node, spikes, {}, reader))
        elif isinstance(node.layer, Convolution | Affine):
            ones = replace(node.layer, weight=(node.layer.weight != 0).double(), bias=torch.zeros_like(node.layer.bias))
            fed = fed + _step(replace(node, layer=ones), spikes, {}, reader).sum()
    return fed
