"""Which limits of a chip a network exceeds: a function of the network's graph, without the chip and its tools."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, prod

from supersnn.chips.limits import CHIPS, Chip, Core
from supersnn.export_formats.graph import (
    INPUT,
    Affine,
    AveragePool,
    Convolution,
    Flatten,
    Graph,
    Neurons,
    Node,
    Rectifier,
    UnsupportedLayerError,
    graph_of,
)
from supersnn.export_formats.portable import without_pooling
from supersnn.networks.base import ImageShape, Network


@dataclass(frozen=True)
class Excess:
    """A limit that a network exceeds.

    Attributes:
        limit: its name, as ``kernel size``.
        layers: the layers that exceed it, by name; none where it is one of the whole network.
        text: what was found, and what the chip has.
    """

    limit: str
    layers: tuple[str, ...]
    text: str

    @property
    def found(self) -> str:
        """The text, with the number of further layers."""
        more = len(self.layers) - 1
        return f"{self.text} (and {more} more layer{'s' if more > 1 else ''})" if more > 0 else self.text

    def __str__(self) -> str:
        return f"{self.limit}: {self.found}"


@dataclass(frozen=True)
class _Layer:
    """A layer with weights as a chip sees it: a linear layer of a map is a convolution with a kernel of its side."""

    name: str
    inputs: tuple[int, int, int]
    outputs: tuple[int, int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    weights: int

    @property
    def entries(self) -> int:
        """Entries of kernel memory on Speck: kernel and output channels are rounded up to powers of two."""
        return self.inputs[0] * _power_of_two(prod(self.kernel)) * _power_of_two(self.outputs[0])

    @property
    def states(self) -> int:
        """Entries of neuron memory on Speck: both sides of the map are rounded up to powers of two."""
        channels, height, width = self.outputs
        return channels * _power_of_two(height) * _power_of_two(width)

    @property
    def neurons(self) -> int:
        return prod(self.outputs)


def excesses(graph: Graph, chip: str, bits: int | None = None) -> list[Excess]:
    """Return the limits of a chip that a network exceeds; an empty list does not say that it runs there.

    Limits that are not public are not among them (`Chip.unknown`), nor is the time that a step takes.

    Args:
        graph: of the network; its weights do not matter.
        chip: a key of `CHIPS`.
        bits: of its weights, None for floats.
    """
    limits = CHIPS[chip]
    if limits.windows:
        graph = without_pooling(graph, keep=_pools_of(graph, limits))
    layers = [_layer(graph, name, node) for name, node in graph.nodes.items() if _has_weights(node)]
    found = [*_of_neurons(graph, limits), *_of_connections(graph, limits), *_of_layers(graph, layers, limits)]
    found += [*_of_cores(layers, limits), *_of_memory(graph, layers, limits)]
    if bits is None or bits > limits.weight_bits:
        have = "floats (`export.int8` adds integers)" if bits is None else f"of {bits} bits"
        found.append(Excess("weights", (), f"they are {have}; the chip has {limits.weight_bits} bits"))
    return found


def excesses_of(network: Network, shape: ImageShape, chip: str, bits: int | None = None) -> list[Excess]:
    """Return `excesses` of a network for images of a shape; one that has no graph exceeds the limit ``layers``."""
    try:
        graph = graph_of(network, shape)
    except UnsupportedLayerError as refusal:
        return [Excess("layers", (), str(refusal))]
    return excesses(graph, chip, bits)


def _pools_of(graph: Graph, limits: Chip) -> set[str]:
    """Return the poolings that the chip has; others are composed with what reads them where that is possible."""
    pools = {name: node.layer for name, node in graph.nodes.items() if isinstance(node.layer, AveragePool)}
    return {name for name, pool in pools.items() if _is_pooling(pool, limits)}


def _is_pooling(pool: AveragePool, limits: Chip) -> bool:
    return pool.window == pool.stride and pool.window[0] == pool.window[1] and pool.window[0] in limits.windows


def _has_weights(node: Node) -> bool:
    return isinstance(node.layer, Convolution | Affine)


def _layer(graph: Graph, name: str, node: Node) -> _Layer:
    (source, *_) = node.sources
    before = graph.nodes.get(source)
    if isinstance(node.layer, Convolution):
        layer = node.layer
        inputs, outputs = _as_map(graph, source), _map(node.shape)
        return _Layer(name, inputs, outputs, _sides(layer.weight.shape), layer.stride, layer.padding,
                      layer.weight.numel())  # fmt: skip
    assert isinstance(node.layer, Affine)
    of_map = before is not None and isinstance(before.layer, Flatten)
    inputs = _as_map(graph, before.sources[0] if before is not None and of_map else source)
    return _Layer(name, inputs, _map(node.shape), inputs[1:], (1, 1), (0, 0), node.layer.weight.numel())


def _sides(shape: Sequence[int]) -> tuple[int, int]:
    return shape[2], shape[3]


def _as_map(graph: Graph, name: str) -> tuple[int, int, int]:
    return _map(graph.shape if name == INPUT else graph.nodes[name].shape)


def _map(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return the shape as [C, H, W]; a vector is a map of one pixel."""
    channels, height, width = (*shape, 1, 1)[:3]
    return channels, height, width


def _power_of_two(value: int) -> int:
    return 1 << (value - 1).bit_length()


def _of_neurons(graph: Graph, limits: Chip) -> Iterator[Excess]:
    neurons = {name: node.layer for name, node in graph.nodes.items() if isinstance(node.layer, Neurons)}
    if analogue := [name for name, node in graph.nodes.items() if isinstance(node.layer, Rectifier)]:
        yield Excess("neurons", tuple(analogue), f"{analogue[0]} is a ReLU; the chip has spiking neurons")
    leaky = [name for name, layer in neurons.items() if layer.decay != 1]
    if leaky and not limits.decay:
        decay = neurons[leaky[0]].decay
        text = f"{leaky[0]} keeps {decay:.3g} of its potential in a step; the chip has a constant leak only"
        yield Excess("decay", tuple(leaky), text)
    other = [name for name, layer in neurons.items() if layer.reset not in limits.resets]
    if other:
        text = f"{other[0]} has a {neurons[other[0]].reset} reset; the chip's tools have {' or '.join(limits.resets)}"
        yield Excess("reset", tuple(other), text)


def _of_connections(graph: Graph, limits: Chip) -> Iterator[Excess]:
    """Yield what the structure of the network exceeds: its input, its output, shortcuts, layers without neurons."""
    weighted = [name for name, node in graph.nodes.items() if _has_weights(node)]
    if not limits.images:
        first = [name for name in weighted if INPUT in _origins(graph, name)]
        yield Excess("input", tuple(first), f"{first[0]} takes an image as a current; the chip takes spikes")
    last = list(graph.nodes)[-1]
    if not limits.readout and not isinstance(graph.nodes[last].layer, Neurons):
        yield Excess("read-out", (last,), f"{last} returns numbers; the chip returns spikes")
    sums = [name for name, node in graph.nodes.items() if len(node.sources) > 1]
    if sums and not limits.residual:
        count = len(graph.nodes[sums[0]].sources)
        text = f"{sums[0]} adds up {count} layers; the chip's tools map sequences, shortcuts are configured by hand"
        yield Excess("residual connections", tuple(sums), text)
    bare = [name for name in weighted if any(_has_weights(graph.nodes[one]) for one in _origins(graph, name, INPUT))]
    if bare:
        before = next(one for one in _origins(graph, bare[0], INPUT) if _has_weights(graph.nodes[one]))
        text = f"there are none between {before} and {bare[0]}; the chip has them after every layer of weights"
        yield Excess("neurons between layers", tuple(bare), text)
    spread = {
        name: readers for name in graph.nodes if len(readers := _readers(graph, name)) > (limits.fan_out or 10**9)
    }
    if spread:
        text = f"{next(iter(spread))} goes to {len(next(iter(spread.values())))}; the chip has {limits.fan_out}"
        yield Excess("fan-out", tuple(spread), text)
    biased = [name for name in weighted if name != last or limits.readout]
    if not limits.bias and biased:
        text = f"{biased[0]} has one in every step; the chip has it as a leak of its own clock"
        yield Excess("bias", tuple(biased), text)


def _origins(graph: Graph, name: str, without: str = "") -> list[str]:
    """Return what a node reads, behind poolings and flattenings."""
    found: list[str] = []
    for source in graph.nodes[name].sources:
        passed = source != INPUT and _is_passed(graph.nodes[source])
        found += _origins(graph, source, without) if passed else [source]
    return [one for one in found if one != without]


def _readers(graph: Graph, name: str) -> list[str]:
    """Return the layers with weights or neurons that the spikes of a layer of neurons go to."""
    if not isinstance(graph.nodes[name].layer, Neurons):
        return []
    return [one for one, node in graph.nodes.items() if not _is_passed(node) and name in _origins(graph, one)]


def _is_passed(node: Node) -> bool:
    return isinstance(node.layer, AveragePool | Flatten)


def _of_layers(graph: Graph, layers: Sequence[_Layer], limits: Chip) -> Iterator[Excess]:
    """Yield what single layers exceed."""

    def above(limit: str, most: int | None, value: Callable[[_Layer], int], what: str) -> Iterator[Excess]:
        worst = sorted((layer for layer in layers if most is not None and value(layer) > most), key=value)[::-1]
        if worst:
            text = f"{worst[0].name} has {value(worst[0]):,}{what}; the chip has at most {most:,}"
            yield Excess(limit, tuple(layer.name for layer in worst), text)

    yield from above("kernel size", limits.kernel, lambda layer: max(layer.kernel), "")
    yield from above("padding", limits.padding, lambda layer: max(layer.padding), "")
    yield from above("channels", limits.channels, lambda layer: layer.outputs[0], "")
    yield from above("side of an input", limits.input_side, lambda layer: max(layer.inputs[1:]), " pixels")
    yield from above("side of a map", limits.map_side, lambda layer: max(layer.outputs[1:]), " pixels")
    stepping = [layer for layer in layers if limits.strides and not set(layer.stride) <= set(limits.strides)]
    if stepping:
        text = f"{stepping[0].name} has {stepping[0].stride}; the chip has {_listed(limits.strides)}"
        yield Excess("stride", tuple(layer.name for layer in stepping), text)
    pools = {name: node.layer for name, node in graph.nodes.items() if isinstance(node.layer, AveragePool)}
    odd = [name for name, pool in pools.items() if limits.windows and not _is_pooling(pool, limits)]
    if odd:
        text = f"{odd[0]} has windows of {pools[odd[0]].window}; the chip has sums over {_listed(limits.windows)}"
        yield Excess("pooling", tuple(odd), text)


def _listed(values: Iterable[int]) -> str:
    return ", ".join(map(str, values))


def _of_cores(layers: Sequence[_Layer], limits: Chip) -> Iterator[Excess]:
    """Yield what layers exceed on a chip with one core for each of them."""
    if not limits.layers:
        return
    if len(layers) > len(limits.layers):
        yield Excess("layers", (), f"the network has {len(layers)}; the chip has {len(limits.layers)} cores, one each")
    alone = True
    for limit, needed, most in (
        ("weights of a core", lambda layer: layer.entries, max(core.weights for core in limits.layers)),
        ("neurons of a core", lambda layer: layer.states, max(core.neurons for core in limits.layers)),
    ):
        worst = sorted((layer for layer in layers if needed(layer) > most), key=needed)[::-1]
        if worst:
            alone = False
            text = f"{worst[0].name} takes {needed(worst[0]):,} entries; a core has at most {most:,}"
            yield Excess(limit, tuple(layer.name for layer in worst), text)
    if alone and len(layers) <= len(limits.layers) and (left := _without_core(layers, limits.layers)):
        text = f"there is none left for {left}: the cores with so much memory hold other layers"
        yield Excess("memory of the cores", (left,), text)


def _without_core(layers: Sequence[_Layer], cores: Sequence[Core]) -> str | None:
    """Return a layer that finds no core of its own, None where all do: a matching by augmenting paths (Kuhn 1955)."""
    holder: dict[int, _Layer] = {}

    def place(layer: _Layer, tried: set[int]) -> bool:
        for index, core in enumerate(cores):
            if index not in tried and layer.entries <= core.weights and layer.states <= core.neurons:
                tried.add(index)
                if index not in holder or place(holder[index], tried):
                    holder[index] = layer
                    return True
        return False

    return next((layer.name for layer in layers if not place(layer, set())), None)


def _of_memory(graph: Graph, layers: Sequence[_Layer], limits: Chip) -> Iterator[Excess]:
    """Yield what all layers together exceed on a chip whose cores share them."""
    sizes: Mapping[str, int] = {
        name: prod(node.shape) for name, node in graph.nodes.items() if isinstance(node.layer, Neurons)
    }
    weights, neurons = sum(layer.weights for layer in layers), sum(sizes.values())
    if limits.cores is not None and limits.neurons_per_core is not None:
        taken = sum(ceil(size / limits.neurons_per_core) for size in (*sizes.values(), layers[-1].neurons))
        if taken > limits.cores:
            text = f"{neurons:,} neurons take at least {taken} cores; the chip has {limits.cores}"
            yield Excess("cores", (), f"{text} with {limits.neurons_per_core:,} each")
    if limits.synapses is not None and weights > limits.synapses:
        yield Excess("synapses", (), f"there are {weights:,} weights; the chip has {limits.synapses:,} synapses")
    needed = weights * limits.weight_bits // 8 + neurons * limits.state_bytes
    if limits.memory is not None and needed > limits.memory:
        text = f"weights and neurons take at least {needed / 2**20:.1f} MiB; the chip has {limits.memory / 2**20:.1f}"
        yield Excess("memory", (), text)
