"""A student's weights of 8 bits: the file `student-int8.safetensors`, and what they are worth beside the floats.

The file has, by the names of the graph's nodes (`graph`), for each convolution and linear layer `NAME.weight` (int8)
and `NAME.bias` (int32), for each layer of neurons `NAME.threshold` (int32) and `NAME.scale` (float64), the current of
one unit. Structure, decays and resets are the student's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from supersnn import checkpoint
from supersnn.data import Images
from supersnn.export_formats.graph import Affine, Convolution, Graph, Neurons, Node, UnsupportedLayerError, graph_of
from supersnn.export_formats.graph_cost import Measured, measured
from supersnn.export_formats.portable import with_resistance_in_weights, without_averages
from supersnn.export_formats.quantised import quantised
from supersnn.files import DamagedFile
from supersnn.networks.base import ImageShape, Network

FILE = "student-int8.safetensors"
BITS = 8


def write(network: Network, shape: ImageShape, path: Path) -> None:
    """Write a trained network's weights of 8 bits.

    Raises:
        UnsupportedLayerError: a layer has no counterpart, or the network has no spiking neurons.
    """
    graph, scales = quantised(spiking_graph(network, shape), BITS)
    tensors: dict[str, Tensor] = {}
    for name, node in graph.nodes.items():
        if isinstance(node.layer, Convolution | Affine):
            tensors[f"{name}.weight"] = node.layer.weight.to(torch.int8)
            tensors[f"{name}.bias"] = node.layer.bias.to(torch.int32)
        elif isinstance(node.layer, Neurons):
            tensors[f"{name}.threshold"] = torch.tensor(node.layer.threshold).to(torch.int32)
            tensors[f"{name}.scale"] = torch.tensor(scales[name], dtype=torch.float64)
    checkpoint.save(path, tensors, {})


def read(network: Network, shape: ImageShape, path: Path) -> Graph:
    """Return the graph of a network with the weights and thresholds of its file.

    Raises:
        DamagedFile: the file is of another network.
        UnsupportedLayerError: the network has no graph.
    """
    plain = _plain(spiking_graph(network, shape))
    tensors = checkpoint.load(path)[0]
    try:
        nodes = {name: _with(node, name, tensors) for name, node in plain.nodes.items()}
    except KeyError as error:
        raise DamagedFile(f"{path}: not of this network: it has no {error.args[0]}") from None
    return replace(plain, nodes=nodes)


def _with(node: Node, name: str, tensors: Mapping[str, Tensor]) -> Node:
    if isinstance(node.layer, Convolution | Affine):
        return replace(node, layer=replace(node.layer, weight=tensors[f"{name}.weight"], bias=tensors[f"{name}.bias"]))
    if isinstance(node.layer, Neurons):
        return replace(node, layer=replace(node.layer, threshold=float(tensors[f"{name}.threshold"]), gain=1.0))
    return node


def compared(
    network: Network, images: Images, shape: ImageShape, mean: Sequence[float], std: Sequence[float]
) -> dict[str, Any]:
    """Return what weights of 8 bits are worth beside floats on the same images, as plain values.

    `float` and `int8` have `accuracy`, `spike_rate`, `synaptic_ops` and `energy_nj`, counted alike: one operation for
    each spike and output that it feeds with a weight other than zero. Of the `images`, `gained` have the right class
    with 8 bits only, `lost` with floats only. Where that cannot be, there is the reason alone, `refused`.
    """
    try:
        graph = spiking_graph(network, shape)
        before = measured(_plain(graph), images, mean, std)
        after = measured(quantised(graph, BITS)[0], images, mean, std)
    except UnsupportedLayerError as refusal:
        return {"refused": str(refusal)}
    return {
        "images": len(images),
        "float": figures(before),
        "int8": figures(after),
        "gained": int((after.right & ~before.right).sum()),
        "lost": int((before.right & ~after.right).sum()),
    }


def figures(found: Measured) -> dict[str, float]:
    """Return what was measured, under the names of the metrics' columns."""
    return {"accuracy": found.accuracy, "spike_rate": found.rate, "synaptic_ops": found.synaptic_ops,
            "energy_nj": found.energy_nj}  # fmt: skip


def spiking_graph(network: Network, shape: ImageShape) -> Graph:
    """Return the graph of a trained network.

    Raises:
        UnsupportedLayerError: a layer has no counterpart, or the network has no spiking neurons.
    """
    graph = graph_of(network, shape)
    if not any(isinstance(node.layer, Neurons) for node in graph.nodes.values()):
        raise UnsupportedLayerError("the network has no spiking neurons")
    return graph


def _plain(graph: Graph) -> Graph:
    """Return the graph in the form whose weights are rounded."""
    return with_resistance_in_weights(without_averages(graph))[0]
