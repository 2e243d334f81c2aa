"""The Neuromorphic Intermediate Representation (Pedersen et al. 2024) of a student, and a small reader that runs it.

`nir.LIF` is the equation τ·dv/dt = (v_leak - v) + r·I with a spike where v > v_threshold and a reset to v_reset. An
Euler step of `DT` is v ← v + (DT/τ)·(r·I - v), which equals u = decay·v + current of `neurons.lif` for
τ = DT/(1 - decay), r = 1 and I = current/(1 - decay); that factor is in the weights (`portable`). `neurons.lif` spikes
at u >= threshold, so v_threshold is the next smaller float32. There is no pooling, so that snnTorch, Norse and sinabs
all read the layers: one that cannot be composed with what reads it is a convolution of each channel with itself. NIR's
type check wants the neurons' constants for each neuron, and sinabs one for each layer: there is a file of each form,
the second one for `nir.read(path, type_check=False)`.

snnTorch's reader uses the same step; Norse's needs `dt=DT`. sinabs takes τ as a number of steps, does not scale its
input, spikes several times in a step and subtracts its threshold: its layers need τ = -1/ln(decay), a threshold divided
by 1 - decay, `SingleSpike` and `MembraneReset`. Norse and sinabs run files with nirtorch's older executor, which
does not order branches: of this package's networks that is VGG. snnTorch runs all of them.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from supersnn.export_formats.agreement import Run
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
    UnsupportedLayerError,
)
from supersnn.export_formats.portable import with_resistance_in_weights, without_averages

if TYPE_CHECKING:
    import nir
    import numpy as np

DT = 1e-4
"""Length of a time step in seconds, as snnTorch's reader assumes it."""
OUTPUT = "output"


def write(graph: Graph, path: Path, by_layer: bool = False) -> None:
    """Write a graph as a NIR file (HDF5).

    The input is the normalised image [C, H, W] at every time step, the output the logits [K] of a step. The metadata
    document this, with `dt` and `time_steps`. With `by_layer` a layer of neurons has one constant of each kind.

    Raises:
        UnsupportedLayerError: a layer has no counterpart in NIR.
    """
    import nir
    import numpy as np

    graph, _ = with_resistance_in_weights(without_averages(graph))
    last = list(graph.nodes)[-1]
    nodes = {
        name: _node(name, node.layer, _source_shape(graph, node), (1,) if by_layer else node.shape)
        for name, node in graph.nodes.items()
    }
    ends = {INPUT: nir.Input({"input": np.array(graph.shape)}),
            OUTPUT: nir.Output({"output": np.array(graph.nodes[last].shape)})}  # fmt: skip
    edges = [(source, name) for name, node in graph.nodes.items() for source in node.sources]
    metadata = {
        "dt": DT,
        "time_steps": graph.steps,
        "input": "the normalised image, the same at every time step",
        "output": "the logits of a time step; the prediction is their mean over time",
    }
    nir.write(
        path, nir.NIRGraph({**ends, **nodes}, [*edges, (last, OUTPUT)], metadata=metadata, type_check=not by_layer)
    )


def _source_shape(graph: Graph, node: Node) -> tuple[int, ...]:
    """Return the shape of a node's input."""
    source = node.sources[0]
    return graph.shape if source == INPUT else graph.nodes[source].shape


def _node(name: str, layer: Layer, given: tuple[int, ...], shape: tuple[int, ...]) -> "nir.NIRNode":
    import nir
    import numpy as np

    match layer:
        case Convolution():
            if layer.groups != 1:
                raise UnsupportedLayerError(
                    f"{name}: a convolution in {layer.groups} groups, which readers of NIR interpret differently"
                )
            options = layer.stride, layer.padding, layer.dilation
            return nir.Conv2d(given[1:], layer.weight.numpy(), *options, 1, layer.bias.numpy())
        case Affine():
            return nir.Affine(layer.weight.numpy(), layer.bias.numpy())
        case AveragePool() | SumPool():
            return nir.Conv2d(given[1:], *_of_windows(layer, given[0]))
        case Flatten():  # counted from the end: works with and without a batch dimension
            return nir.Flatten({"input": np.array(given)}, -3, -1)
        case Neurons():
            return _neurons(name, layer, shape)
        case _:
            raise UnsupportedLayerError(f"{name}: NIR has no {type(layer).__name__.lower()}")


def _of_windows(pool: AveragePool | SumPool, channels: int) -> tuple[Any, ...]:
    """Return a pooling as a convolution: its weight, stride, padding, dilation, groups and bias."""
    value = 1.0 if isinstance(pool, SumPool) else 1 / (pool.window[0] * pool.window[1])
    weight = value * torch.eye(channels)[:, :, None, None].repeat(1, 1, *pool.window)
    return weight.numpy(), pool.stride, (0, 0), (1, 1), 1, torch.zeros(channels).numpy()


def _neurons(name: str, layer: Neurons, shape: tuple[int, ...]) -> "nir.LIF":
    import nir
    import numpy as np

    if layer.reset != "hard":
        raise UnsupportedLayerError(
            f"{name}: neurons with {layer.reset} reset; NIR's LIF resets to a fixed potential only"
        )
    threshold = np.nextafter(np.float32(layer.threshold), np.float32(-np.inf))
    tau = DT / (1 - layer.decay)
    constants = (tau, layer.gain * tau / DT, 0.0, float(threshold), 0.0)
    return nir.LIF(*(np.full(shape, value) for value in constants))


def run(path: Path, images: Tensor) -> Run:
    """Read a NIR file and run it, step by step, on normalised images float32 [B, C, H, W].

    Potentials have double precision. Spikes are returned by the name of their node.
    """
    import nir

    graph = nir.read(path, type_check=False)
    sources: dict[str, list[str]] = {name: [] for name in graph.nodes}
    for source, target in graph.edges:
        sources[target].append(source)
    order = [name for name in _order(sources) if name != INPUT]
    potentials: dict[str, Tensor | float] = {n: 0.0 for n in order if isinstance(graph.nodes[n], nir.LIF)}
    spikes: dict[str, list[Tensor]] = {name: [] for name in potentials}
    logits = []
    with torch.no_grad():
        for _ in range(int(graph.metadata["time_steps"])):
            values = {INPUT: images.double()}
            for name in order:
                first, *others = (values[source] for source in sources[name])
                total = sum(others, first)
                if name in potentials:
                    dt = float(graph.metadata["dt"])
                    values[name], potentials[name] = _lif_step(graph.nodes[name], total, potentials[name], dt)
                    spikes[name].append(values[name])
                else:
                    values[name] = _apply(graph.nodes[name], total)
            logits.append(values[OUTPUT])
    return Run(torch.stack(logits).mean(0).float(), {name: torch.cat(steps) for name, steps in spikes.items()})


def _order(sources: dict[str, list[str]]) -> Iterator[str]:
    """Yield the nodes in topological order."""
    waiting, done = dict(sources), set[str]()
    while waiting:
        ready = [name for name, before in waiting.items() if done.issuperset(before)]
        if not ready:
            raise ValueError(f"the graph has a cycle through {', '.join(waiting)}")
        for name in ready:
            done.add(name)
            del waiting[name]
            yield name


def _lif_step(node: "nir.LIF", current: Tensor, potential: Tensor | float, dt: float) -> tuple[Tensor, Tensor]:
    """Return spikes and potentials after one Euler step of the node's equation."""
    tau, r, leak, threshold, reset = (_double(x) for x in
                                      (node.tau, node.r, node.v_leak, node.v_threshold, node.v_reset))  # fmt: skip
    v = potential + dt / tau * ((leak - potential) + r * current)
    fired = v > threshold
    return fired.double(), torch.where(fired, reset, v)


def _apply(node: Any, x: Tensor) -> Tensor:
    match type(node).__name__:
        case "Conv2d":
            options = (_ints(node.stride), _ints(node.padding), _ints(node.dilation))
            return functional.conv2d(x, _double(node.weight), _double(node.bias), *options, int(node.groups))
        case "Affine":
            return functional.linear(x, _double(node.weight), _double(node.bias))
        case "AvgPool2d":
            return functional.avg_pool2d(x, _ints(node.kernel_size), _ints(node.stride), _ints(node.padding))
        case "Flatten":
            return x.flatten(int(node.start_dim), int(node.end_dim))
        case "Output":
            return x
        case other:
            raise ValueError(f"a {other} node, which this package does not write")


def _double(array: "np.ndarray[Any, Any]") -> Tensor:
    return torch.from_numpy(array).double()


def _ints(array: "np.ndarray[Any, Any]") -> tuple[int, ...]:
    return tuple(int(x) for x in array)
