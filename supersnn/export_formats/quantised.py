"""A student with integer weights and thresholds, as neuromorphic chips hold them, and what it is worth then.

The sources of a layer of neurons share one scale s, because their currents are added: weights are round(w / s) in -127
… 127 with s = max |w| / 127 for 8 bits, biases round(b / s) and the threshold θ / s, rounded up to an integer. Rounded
up it fires for the same integer potentials at or above it; with a decay, potentials between are fractions. The
read-out has a scale of its own, which no class depends on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from supersnn.augment import normalise
from supersnn.data import Images
from supersnn.export_formats.graph import INPUT, Affine, Convolution, Flatten, Graph, Layer, Neurons, Node
from supersnn.export_formats.portable import with_resistance_in_weights, without_pooling
from supersnn.operations import AC_PJ, MAC_PJ


@dataclass(frozen=True)
class Measured:
    """What a graph is worth on some images: fractions, and means of an image.

    accuracy: share of the images with the right class.
    rate: mean firing rate over all neurons and steps.
    synaptic_ops: one for each spike and output that it feeds.
    energy_nj: estimated from these and the first layer's multiply-accumulates, as `supersnn.operations` does.
    """

    accuracy: float
    rate: float
    synaptic_ops: float
    energy_nj: float


def quantised(graph: Graph, bits: int = 8) -> tuple[Graph, Mapping[str, float]]:
    """Return the graph with integers for weights, biases and thresholds, and the scale of each layer of neurons.

    Poolings are composed with what reads them, and gains with the weights (`portable`). The neurons' gain of 1 - decay
    is undone, so that potentials stay in units of the scale: thresholds are those of the undivided current.

    Raises:
        ValueError: `bits` is not from 2 to 16.
    """
    if bits not in range(2, 17):
        raise ValueError(f"bits: expected 2 to 16, found {bits}")
    most = 2 ** (bits - 1) - 1
    plain, _ = with_resistance_in_weights(without_pooling(graph))
    nodes, scales = dict(plain.nodes), dict[str, float]()
    for name, node in plain.nodes.items():
        if isinstance(node.layer, Neurons):
            sources = [source for source in node.sources if source != INPUT]
            scale = _scale([plain.nodes[source].layer for source in sources], most)
            for source in sources:
                nodes[source] = replace(nodes[source], layer=_rounded(plain.nodes[source].layer, scale, most))
            threshold = node.layer.threshold / (1 - node.layer.decay) / scale
            layer = replace(node.layer, threshold=float(torch.tensor(threshold).ceil()), gain=1.0)
            nodes[name] = replace(node, layer=layer)
            scales[name] = scale
    last = list(plain.nodes)[-1]
    own = _scale([plain.nodes[last].layer], most)
    nodes[last] = replace(nodes[last], layer=_rounded(plain.nodes[last].layer, own, most))
    return replace(plain, nodes=nodes), scales


def _scale(layers: Sequence[Layer], most: int) -> float:
    weights = [layer.weight for layer in layers if isinstance(layer, Convolution | Affine)]
    return max(float(weight.abs().max()) for weight in weights) / most


def _rounded(layer: Layer, scale: float, most: int) -> Layer:
    if not isinstance(layer, Convolution | Affine):
        return layer
    weight = (layer.weight.double() / scale).round().clamp(-most, most)
    return replace(layer, weight=weight, bias=(layer.bias.double() / scale).round())


def measured(
    graph: Graph, images: Images, mean: Sequence[float], std: Sequence[float], batch_size: int = 64
) -> Measured:
    """Run a graph step by step, in double precision, and return what it is worth on some images."""
    graph = without_pooling(graph)
    right, fired, neurons, synaptic = 0, 0.0, 0, 0.0
    fan_outs = {name: _fan_out(graph, name) for name, node in graph.nodes.items() if isinstance(node.layer, Neurons)}
    for pixels, labels in zip(images.pixels.split(batch_size), images.labels.split(batch_size), strict=True):
        potentials: dict[str, Tensor] = {}
        logits: Tensor | float = 0.0
        for _ in range(graph.steps):
            values = {INPUT: normalise(pixels.cpu(), mean, std).double()}
            for name, node in graph.nodes.items():
                total = torch.stack([values[source] for source in node.sources]).sum(0)
                values[name] = _step(node, total, potentials, name)
                if name in fan_outs:
                    fired, neurons = fired + float(values[name].sum()), neurons + values[name].numel()
                    synaptic += float((values[name] * fan_outs[name]).sum())
            logits = logits + values[list(graph.nodes)[-1]]
        assert isinstance(logits, Tensor)
        right += int((logits.argmax(1) == labels.cpu()).sum())
    count = len(images)
    first = next(node for node in graph.nodes.values() if isinstance(node.layer, Convolution))
    assert isinstance(first.layer, Convolution)
    ones = torch.ones(1, *graph.shape, dtype=torch.float64)
    macs = float(_convolved(replace(first.layer, weight=torch.ones_like(first.layer.weight)), ones, bias=False).sum())
    energy = (macs * MAC_PJ + synaptic / count * AC_PJ) / 1000
    return Measured(right / count, fired / max(1, neurons), synaptic / count, energy)


def _step(node: Node, x: Tensor, potentials: dict[str, Tensor], name: str) -> Tensor:
    match node.layer:
        case Convolution():
            return _convolved(node.layer, x)
        case Affine():
            return functional.linear(x, node.layer.weight.double(), node.layer.bias.double())
        case Flatten():
            return x.flatten(1)
        case Neurons():
            layer = node.layer
            u = layer.decay * potentials.get(name, torch.zeros_like(x)) + layer.gain * x
            spikes = (u >= layer.threshold).double()
            potentials[name] = u * (1 - spikes) if layer.reset == "hard" else u - layer.threshold * spikes
            return spikes
        case other:
            raise ValueError(f"{name}: {type(other).__name__} cannot be run with integers")


def _convolved(layer: Convolution, x: Tensor, bias: bool = True) -> Tensor:
    options = layer.stride, layer.padding, layer.dilation, layer.groups
    return functional.conv2d(x, layer.weight.double(), layer.bias.double() if bias else None, *options)


def _fan_out(graph: Graph, name: str) -> Tensor:
    """Return the outputs that a spike of a layer of neurons feeds, by its place: the shape of the layer's output."""
    shape = graph.nodes[name].shape
    spikes = torch.zeros(1, *shape, dtype=torch.float64, requires_grad=True)
    fed: Tensor = spikes.sum() * 0
    for reader, node in graph.nodes.items():
        values = spikes
        if isinstance(node.layer, Flatten) and name in node.sources:
            readers = [other.layer for other in graph.nodes.values() if reader in other.sources]
            fed = fed + sum(spikes.sum() * len(layer.weight) for layer in readers if isinstance(layer, Affine))
        elif name in node.sources and isinstance(node.layer, Convolution) and not reader.startswith(f"{name}.scale"):
            ones = replace(node.layer, weight=(node.layer.weight != 0).double())
            fed = fed + _convolved(ones, values, bias=False).sum()
        elif name in node.sources and isinstance(node.layer, Affine):
            fed = fed + values.sum() * len(node.layer.weight)
    (found,) = torch.autograd.grad(fed, spikes)
    return found[0]
