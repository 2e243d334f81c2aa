"""A graph in the layers that all readers of NIR share: convolutions, affine layers, flattening and neurons.

Readers differ in what else they take: snnTorch has average pooling and no sum pooling, Norse and sinabs the reverse,
and Norse ignores a neuron's resistance. What is linear is therefore composed with the layer beside it:

    average pooling, then a convolution     one convolution with every weight spread over the pooled window
    average pooling, flattening, affine     an affine layer of the whole map
    average pooling of other windows        a sum, and the weights behind it divided by the window's size
    a resistance r before neurons           r times the weights of the layers that feed them

All of them are exact. Windows that do not cover a map, as 2x2 on a side of 7, leave out its last rows, which a spread
convolution would read in place of its padding: there the sum stays.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace

import torch

from supersnn.export_formats.graph import (
    INPUT,
    Affine,
    AveragePool,
    Convolution,
    Flatten,
    Graph,
    Layer,
    Neurons,
    Node,
    SumPool,
)


def without_pooling(graph: Graph, keep: Collection[str] = ()) -> Graph:
    """Return the graph with average poolings composed with what reads them; the others stay, and those to `keep`."""
    nodes = dict(graph.nodes)
    for name, node in graph.nodes.items():
        if isinstance(node.layer, AveragePool) and name not in keep:
            _compose(nodes, name, node.layer, graph.shape)
    return replace(graph, nodes=nodes)


def _compose(nodes: dict[str, Node], name: str, pool: AveragePool, image: tuple[int, ...]) -> None:
    """Compose one pooling with all of its readers, if that is possible for each of them."""
    node = nodes[name]
    shapes = [image if source == INPUT else nodes[source].shape for source in node.sources]
    _, height, width = shapes[0]
    if pool.window != pool.stride or height % pool.window[0] or width % pool.window[1]:
        return
    found: dict[str, Node] = {}
    for reader in _readers(nodes, name):
        layer, alone = nodes[reader].layer, nodes[reader].sources == (name,)
        if alone and isinstance(layer, Convolution) and layer.dilation == (1, 1):
            found[reader] = replace(nodes[reader], layer=_spread(layer, pool), sources=node.sources)
        elif alone and isinstance(layer, Flatten) and node.shape[1:] == (1, 1):
            affine = _readers(nodes, reader)
            if not all(isinstance(nodes[one].layer, Affine) and nodes[one].sources == (reader,) for one in affine):
                return
            area = height * width
            found[reader] = replace(nodes[reader], sources=node.sources, shape=(node.shape[0] * area,))
            found |= {one: replace(nodes[one], layer=_of_map(nodes[one].layer, area)) for one in affine}
        else:
            return
    nodes |= found
    del nodes[name]


def without_averages(graph: Graph) -> Graph:
    """Return the graph `without_pooling`, with sums for those poolings that stay and that linear layers alone read."""
    nodes = dict(without_pooling(graph).nodes)
    for name, node in list(nodes.items()):
        if isinstance(node.layer, AveragePool) and (linear := _linear_readers(nodes, name)):
            nodes[name] = replace(node, layer=SumPool(node.layer.window, node.layer.stride))
            for reader, layer in linear.items():
                weight = layer.weight / (node.layer.window[0] * node.layer.window[1])
                nodes[reader] = replace(nodes[reader], layer=replace(layer, weight=weight))
    return replace(graph, nodes=nodes)


def _linear_readers(nodes: Mapping[str, Node], name: str) -> dict[str, Convolution | Affine] | None:
    """Return the layers with weights that read a layer alone, flattened or not; None if others, or none, do."""
    found: dict[str, Convolution | Affine] = {}
    for reader in _readers(nodes, name):
        layer = nodes[reader].layer
        if nodes[reader].sources != (name,):
            return None
        if isinstance(layer, Convolution | Affine):
            found[reader] = layer
        elif isinstance(layer, Flatten) and (behind := _linear_readers(nodes, reader)) is not None:
            found |= behind
        else:
            return None
    return found or None


def _spread(conv: Convolution, pool: AveragePool) -> Convolution:
    """Return the convolution of the map before the pooling."""
    rows, columns = pool.window
    weight = conv.weight.repeat_interleave(rows, 2).repeat_interleave(columns, 3) / (rows * columns)
    stride = conv.stride[0] * rows, conv.stride[1] * columns
    padding = conv.padding[0] * rows, conv.padding[1] * columns
    return replace(conv, weight=weight, stride=stride, padding=padding)


def _of_map(affine: Layer, area: int) -> Affine:
    """Return the affine layer of a flattened map of so many positions."""
    assert isinstance(affine, Affine)
    return replace(affine, weight=affine.weight.repeat_interleave(area, 1) / area)


def with_resistance_in_weights(graph: Graph) -> tuple[Graph, Mapping[str, float]]:
    """Return the graph with currents multiplied by 1 / (1 - decay), and by the neurons' own gain, in its weights.

    With such currents u[t] = v[t-1] + (1 - decay) · (current[t] - v[t-1]) is the neurons' equation, with a resistance
    of 1. A source that others read too, such as the spikes of a shortcut, gets a 1x1 convolution of its own.

    Returns:
        The graph, whose neurons have a gain of 1 - decay, and the factor of each layer of neurons.
    """
    nodes = dict(graph.nodes)
    factors: dict[str, float] = {}
    order: list[str] = []
    for name, node in graph.nodes.items():
        if not isinstance(node.layer, Neurons):
            order.append(name)
            continue
        factor = node.layer.gain / (1 - node.layer.decay)
        sources = []
        for source in node.sources:
            layer = nodes[source].layer if source != INPUT else None
            if isinstance(layer, Convolution | Affine) and _readers(graph.nodes, source) == [name]:
                nodes[source] = replace(
                    nodes[source], layer=replace(layer, weight=layer.weight * factor, bias=layer.bias * factor)
                )
                sources.append(source)
            else:
                shape = graph.shape if source == INPUT else nodes[source].shape
                scale = f"{name}.scale{len(sources)}"
                nodes[scale] = Node(_scale(factor, shape), (source,), shape)
                order.append(scale)
                sources.append(scale)
        nodes[name] = replace(node, layer=replace(node.layer, gain=1 - node.layer.decay), sources=tuple(sources))
        factors[name] = factor
        order.append(name)
    return replace(graph, nodes={name: nodes[name] for name in order}), factors


def _scale(factor: float, shape: tuple[int, ...]) -> Layer:
    """Return a layer that multiplies its input by a factor."""
    weight = factor * torch.eye(shape[0])
    if len(shape) == 1:
        return Affine(weight, torch.zeros(shape[0]))
    return Convolution(weight[:, :, None, None], torch.zeros(shape[0]))


def _readers(nodes: Mapping[str, Node], name: str) -> list[str]:
    return [reader for reader, node in nodes.items() if name in node.sources]
