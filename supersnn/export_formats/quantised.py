"""A student with integer weights and thresholds, as neuromorphic chips hold them; `graph_cost` says what it is worth.

The sources of a layer of neurons share one scale s, because their currents are added: weights are round(w / s) in -127
… 127 with s = max |w| / 127 for 8 bits, biases round(b / s) and the threshold θ / s, rounded up to an integer. Rounded
up it fires for the same integer potentials at or above it; with a decay, potentials between are fractions. The
read-out has a scale of its own, which no class depends on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from supersnn.export_formats.graph import INPUT, Affine, Convolution, Graph, Layer, Neurons, UnsupportedLayerError
from supersnn.export_formats.portable import with_resistance_in_weights, without_averages


def quantised(graph: Graph, bits: int = 8) -> tuple[Graph, Mapping[str, float]]:
    """Return the graph with integers for weights, biases and thresholds, and the scale of each layer of neurons.

    Poolings are composed with what reads them, or are sums, and gains are in the weights (`portable`). The neurons'
    gain of 1 - decay is undone, so that potentials stay in units of the scale: thresholds are those of the undivided
    current.

    Raises:
        UnsupportedLayerError: a layer with weights feeds no neurons, so that nothing says what its integers are worth.
        ValueError: `bits` is not from 2 to 16.
    """
    if bits not in range(2, 17):
        raise ValueError(f"bits: expected 2 to 16, found {bits}")
    most = 2 ** (bits - 1) - 1
    plain, _ = with_resistance_in_weights(without_averages(graph))
    nodes, scales = dict(plain.nodes), dict[str, float]()
    last = list(plain.nodes)[-1]
    rounded = {last}
    for name, node in plain.nodes.items():
        if isinstance(node.layer, Neurons):
            sources = [source for source in node.sources if source != INPUT]
            scale = _scale([plain.nodes[source].layer for source in sources], most)
            for source in sources:
                nodes[source] = replace(nodes[source], layer=_rounded(plain.nodes[source].layer, scale, most))
                rounded.add(source)
            threshold = node.layer.threshold / (1 - node.layer.decay) / scale
            layer = replace(node.layer, threshold=float(torch.tensor(threshold).ceil()), gain=1.0)
            nodes[name] = replace(node, layer=layer)
            scales[name] = scale
    for name, node in plain.nodes.items():
        if isinstance(node.layer, Convolution | Affine) and name not in rounded:
            raise UnsupportedLayerError(f"{name}: a layer with weights that feeds no neurons cannot have integers")
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
