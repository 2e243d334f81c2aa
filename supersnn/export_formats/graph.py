"""A trained student as a graph of plain layers, with batch norms folded: the source of every export format.

A layer with several sources takes the sum of their outputs.
"""

import operator
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from supersnn.errors import shortened
from supersnn.networks.base import ImageShape, Network, evaluating, is_spiking
from supersnn.neurons import LIF, PLIF


class UnsupportedLayerError(Exception):
    """A layer, or one of its options, without a counterpart in an export format; the text names it."""


@dataclass(frozen=True, eq=False)
class Convolution:
    """weight [outputs, inputs / groups, height, width], bias [outputs]."""

    weight: Tensor
    bias: Tensor
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1


@dataclass(frozen=True, eq=False)
class Affine:
    """weight [outputs, inputs], bias [outputs]."""

    weight: Tensor
    bias: Tensor


@dataclass(frozen=True)
class Neurons:
    """A layer of neurons, see `neurons.lif`, whose input is multiplied by `gain`."""

    threshold: float
    decay: float
    reset: str
    gain: float = 1.0


@dataclass(frozen=True)
class Rectifier:
    """max(0, x)."""


@dataclass(frozen=True)
class AveragePool:
    """The mean over windows without padding; partial windows at the border are left out."""

    window: tuple[int, int]
    stride: tuple[int, int]


@dataclass(frozen=True)
class SumPool:
    """The sum over windows, else as `AveragePool`; of `portable` graphs only."""

    window: tuple[int, int]
    stride: tuple[int, int]


@dataclass(frozen=True)
class Flatten:
    """From [C, H, W] to [C·H·W]."""


Layer = Convolution | Affine | Neurons | Rectifier | AveragePool | SumPool | Flatten


@dataclass(frozen=True, eq=False)
class Node:
    """A layer, the sources whose outputs it adds up, and the shape of its output for one image and step."""

    layer: Layer
    sources: tuple[str, ...]
    shape: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Graph:
    """One time step for an image of `shape` [C, H, W]: nodes in the order they run, the last one returns the logits.

    The source `input` is the normalised image, the same at each of the `steps`. A student's logits are the mean over
    them.
    """

    nodes: dict[str, Node]
    shape: tuple[int, int, int]
    steps: int


INPUT = "input"


def graph_of(network: Network, shape: ImageShape) -> Graph:
    """Return the graph of a trained network in evaluation mode; the network is not changed.

    A batch norm after a convolution is folded into it. Any other becomes a 1x1 convolution with a diagonal weight,
    because readers of NIR interpret grouped convolutions differently.

    Raises:
        UnsupportedLayerError: a layer has no counterpart.
    """
    if type(network).forward is not Network.forward:
        raise UnsupportedLayerError(f"{type(network).__name__}: a network with a forward method of its own")
    size = (shape.channels, shape.side, shape.side)
    images = torch.zeros(network.steps, *size, device=next(network.parameters()).device)
    with evaluating(network):
        step = _Step(network)
        traced = fx.GraphModule(step, _trace(step))
        _Shapes(traced).run(images)
    return Graph(_Builder(traced).build(), size, network.steps)


def _trace(step: nn.Module) -> fx.Graph:
    try:
        return _Tracer().trace(step)
    except Exception as error:  # a network of one's own may do anything
        raise UnsupportedLayerError(f"the network cannot be traced: {shortened(str(error), 200)}") from error


class _Step(nn.Module):
    """One time step of a network, with the names of the network's layers."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.stem, self.activation, self.body = network.stem, network.activation, network.body
        self.pool, self.readout = network.pool, network.readout

    def forward(self, image: Tensor) -> Any:
        return self.readout(self.pool(self.body(self.activation(self.stem(image)))).flatten(1))


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return is_spiking(m) or super().is_leaf_module(m, module_qualified_name)


class _Shapes(fx.Interpreter):
    """Runs a traced step and records the shape of every value for one image, under `shape`."""

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if isinstance(value, Tensor):
            n.meta["shape"] = tuple(value.shape[1:])
        return value


class _Builder:
    """Builds nodes from a traced step; each of its values is the sum of some nodes' outputs."""

    def __init__(self, traced: fx.GraphModule) -> None:
        self._traced = traced
        self._nodes: dict[str, Node] = {}
        self._sums: dict[fx.Node, tuple[str, ...]] = {}

    def build(self) -> dict[str, Node]:
        for node in self._traced.graph.nodes:
            match node.op:
                case "placeholder":
                    self._sums[node] = (INPUT,)
                case "call_module":
                    self._sums[node] = self._module(node, self._traced.get_submodule(node.target))
                case "call_function" | "call_method":
                    self._sums[node] = self._function(node)
                case "output":
                    pass
                case _:
                    raise UnsupportedLayerError(f"{node.target}: a tensor of the network that belongs to no layer")
        return self._nodes

    def _module(self, node: fx.Node, module: nn.Module) -> tuple[str, ...]:
        if isinstance(module, nn.Identity | nn.Dropout):
            return self._sums[_input(node)]
        if isinstance(module, nn.BatchNorm2d):
            return self._norm(node, module)
        if type(module) is nn.AdaptiveAvgPool2d:
            return self._add(node, str(node.target), _global_pool(node, module))
        own_neuron = is_spiking(module) and type(module) not in (LIF, PLIF)
        found = _MODULES.get(type(module)) or next((f for t, f in _MODULES.items() if isinstance(module, t)), None)
        translate = None if own_neuron else found
        if translate is None:
            raise UnsupportedLayerError(f"{node.target}: {type(module).__name__} has no counterpart")
        return self._add(node, str(node.target), translate(str(node.target), module))

    def _function(self, node: fx.Node) -> tuple[str, ...]:
        summands = [value for value in node.args if isinstance(value, fx.Node)]
        if node.target in _SUMS and len(summands) == 2:
            if node.target in _IN_PLACE and len(summands[0].users) > 1:
                raise UnsupportedLayerError(f"{node.name}: an in-place sum over a value that is read elsewhere")
            return tuple(name for value in summands for name in self._sums[value])
        if node.target in ("flatten", torch.flatten) and node.args[1:] == (1,):
            return self._add(node, node.name, Flatten())
        if node.target in (torch.relu, functional.relu):
            return self._add(node, node.name, Rectifier())
        raise UnsupportedLayerError(f"{node.name}: {getattr(node.target, '__name__', node.target)} has no counterpart")

    def _add(self, node: fx.Node, name: str, layer: Layer) -> tuple[str, ...]:
        self._nodes[name] = Node(layer, self._sums[_input(node)], node.meta["shape"])
        return (name,)

    def _norm(self, node: fx.Node, norm: nn.BatchNorm2d) -> tuple[str, ...]:
        """Fold a batch norm into the preceding convolution if nothing else reads that, else add it as a layer."""
        scale, shift = scale_and_shift(norm)
        source = _input(node)
        conv = self._nodes.get(str(source.target)) if source.op == "call_module" else None
        if conv is not None and isinstance(conv.layer, Convolution) and len(source.users) == 1:
            name = str(source.target)
            self._nodes[name] = replace(conv, layer=_scaled(conv.layer, scale, shift))
            return (name,)
        weight = torch.diag(scale).float()[:, :, None, None]
        return self._add(node, str(node.target), Convolution(weight, shift.float()))


def _input(node: fx.Node) -> fx.Node:
    """Return the first argument of a call."""
    value = node.args[0]
    assert isinstance(value, fx.Node)
    return value


def scale_and_shift(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return scale and shift, float64 [C], of a trained batch norm, which computes x · scale + shift."""
    state = {**dict(norm.named_parameters()), **dict(norm.named_buffers())}
    mean, variance = state["running_mean"].double().cpu(), state["running_var"].double().cpu()
    weight, bias = state["weight"].detach().double().cpu(), state["bias"].detach().double().cpu()
    scale = weight / (variance + norm.eps).sqrt()
    return scale, bias - mean * scale


def _scaled(conv: Convolution, scale: Tensor, shift: Tensor) -> Convolution:
    weight = conv.weight.double() * scale[:, None, None, None]
    return replace(conv, weight=weight.float(), bias=(conv.bias.double() * scale + shift).float())


def _pair(value: int | tuple[int, ...]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _bias(layer: nn.Conv2d | nn.Linear) -> Tensor:
    return torch.zeros(len(layer.weight)) if layer.bias is None else layer.bias.detach().cpu()


def _convolution(name: str, layer: nn.Conv2d) -> Layer:
    if isinstance(layer.padding, str) or layer.padding_mode != "zeros":
        raise UnsupportedLayerError(f"{name}: padding {layer.padding!r} of mode {layer.padding_mode!r}")
    return Convolution(
        layer.weight.detach().cpu(),
        _bias(layer),
        _pair(layer.stride),
        _pair(layer.padding),
        _pair(layer.dilation),
        layer.groups,
    )


def _average_pool(name: str, layer: nn.AvgPool2d) -> Layer:
    if _pair(layer.padding) != (0, 0) or layer.ceil_mode or layer.divisor_override is not None:
        raise UnsupportedLayerError(f"{name}: an average pooling with padding, partial windows or its own divisor")
    return AveragePool(_pair(layer.kernel_size), _pair(layer.stride))


def _global_pool(node: fx.Node, layer: nn.AdaptiveAvgPool2d) -> Layer:
    if layer.output_size not in (1, (1, 1)):
        raise UnsupportedLayerError(f"{node.target}: an adaptive pooling to {layer.output_size}")
    height, width = _input(node).meta["shape"][-2:]
    return AveragePool((height, width), (height, width))


def _flatten(name: str, layer: nn.Flatten) -> Layer:
    if (layer.start_dim, layer.end_dim) != (1, -1):
        raise UnsupportedLayerError(f"{name}: a flattening of dimensions {layer.start_dim} to {layer.end_dim}")
    return Flatten()


def _neurons(_name: str, layer: LIF) -> Layer:
    decay = layer.decay.item() if isinstance(layer.decay, Tensor) else layer.decay
    return Neurons(layer.threshold, decay, layer.reset, 1 - decay if layer.scale_input else 1.0)


_IN_PLACE = ("add_", operator.iadd)
_SUMS = (*_IN_PLACE, "add", operator.add, torch.add)

_MODULES: dict[type[nn.Module], Callable[[str, Any], Layer]] = {
    nn.Conv2d: _convolution,
    nn.Linear: lambda _name, layer: Affine(layer.weight.detach().cpu(), _bias(layer)),
    LIF: _neurons,
    nn.ReLU: lambda _name, _layer: Rectifier(),
    nn.AvgPool2d: _average_pool,
    nn.Flatten: _flatten,
}
