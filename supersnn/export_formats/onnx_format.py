"""The ONNX program of a student: all time steps unrolled, from pixels to logits.

Input `pixels`, uint8 [B, C, H, W]; output `logits`, float32 [B, K], averaged over time. Before the first neurons
nothing depends on the time step, so every layer runs once on [B, ...]; after them the steps are folded into the
batch, [T·B, ...].
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from supersnn.export_formats.agreement import Run
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
)

if TYPE_CHECKING:
    import onnx

FLOAT = 1  # onnx.TensorProto.FLOAT
OPSET, IR = 18, 9
"""Versions of ONNX that engines have supported since 2023."""
SPIKES = ".spikes"
"""Suffix of the name of a layer's spikes at one step."""


def write(graph: Graph, mean: tuple[float, ...], std: tuple[float, ...], path: Path) -> None:
    """Write a graph as an ONNX file whose input are pixels; for mean and std see `augment.normalise`."""
    import onnx
    from onnx import TensorProto, helper

    program = _Program(graph.steps)
    scale = torch.tensor([1 / (255 * s) for s in std]).view(-1, 1, 1)
    shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)]).view(-1, 1, 1)
    program.add("Cast", ["pixels"], "pixels.float", to=FLOAT)
    program.add("Mul", ["pixels.float", program.constant("scale", scale)], "pixels.scaled")
    program.add("Add", ["pixels.scaled", program.constant("shift", shift)], INPUT)
    for name, node in graph.nodes.items():
        program.layer(name, node)
    last = list(graph.nodes)[-1]
    classes = graph.nodes[last].shape[0]
    program.mean_over_time(last, classes, "logits")
    inputs = helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["B", *graph.shape])
    outputs = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["B", classes])
    graph_proto = helper.make_graph(program.nodes, "student", [inputs], [outputs], program.constants)
    model = helper.make_model(graph_proto, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())


def run(path: Path, pixels: Tensor) -> Run:
    """Read an ONNX file and run it with ONNX's reference implementation on pixels uint8 [B, C, H, W].

    Spikes are returned by the name of their layer, which is the name of the concatenation of a layer's steps.
    """
    import onnx
    from onnx.reference import ReferenceEvaluator

    model = onnx.load(path)
    values = ReferenceEvaluator(model).run(None, {"pixels": pixels.numpy()}, intermediate=True)
    layers = {
        node.output[0] for node in model.graph.node if node.op_type == "Concat" and node.input[0].endswith(SPIKES)
    }
    spikes = {name: torch.from_numpy(values[name]) for name in layers}
    return Run(torch.from_numpy(values["logits"]), spikes)


class _Program:
    """Collects the operators; a value that is the same at every time step is computed once, as [B, ...]."""

    def __init__(self, steps: int) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._steps = steps
        self._timed: set[str] = set()

    def add(self, operator: str, inputs: list[str], *outputs: str, **options: Any) -> None:
        """Add an operator."""
        from onnx import helper

        self.nodes.append(helper.make_node(operator, inputs, list(outputs), outputs[0], **options))

    def constant(self, name: str, value: Tensor) -> str:
        """Add a constant and return its name."""
        from onnx import numpy_helper

        self.constants.append(numpy_helper.from_array(value.numpy(), name))
        return name

    def layer(self, name: str, node: Node) -> None:
        """Add the operators of a layer; the output gets the layer's name."""
        source = self._sum(name, node.sources)
        layer = node.layer
        if isinstance(layer, Neurons):
            self._neurons(name, layer, source)
            return
        if source in self._timed:
            self._timed.add(name)
        match layer:
            case Convolution():
                weights = [self.constant(f"{name}.weight", layer.weight), self.constant(f"{name}.bias", layer.bias)]
                options = {"strides": layer.stride, "pads": layer.padding * 2, "dilations": layer.dilation}
                self.add("Conv", [source, *weights], name, group=layer.groups, **options)
            case Affine():
                weights = [self.constant(f"{name}.weight", layer.weight), self.constant(f"{name}.bias", layer.bias)]
                self.add("Gemm", [source, *weights], name, transB=1)
            case AveragePool():
                self.add("AveragePool", [source], name, kernel_shape=layer.window, strides=layer.stride)
            case Flatten():
                self.add("Flatten", [source], name, axis=1)
            case Rectifier():
                self.add("Relu", [source], name)

    def _sum(self, name: str, sources: tuple[str, ...]) -> str:
        """Return the sum of some values; those without a time dimension are repeated if others have one."""
        if len(sources) == 1:
            return sources[0]
        timed = self._timed.intersection(sources)
        parts = [self._repeated(source) if timed and source not in timed else source for source in sources]
        self.add("Sum", parts, f"{name}.current")
        if timed:
            self._timed.add(f"{name}.current")
        return f"{name}.current"

    def _repeated(self, name: str) -> str:
        repeated = f"{name}.repeated"
        if repeated not in self._timed:
            self.add("Concat", [name] * self._steps, repeated, axis=0)
            self._timed.add(repeated)
        return repeated

    def _neurons(self, name: str, layer: Neurons, current: str) -> None:
        """Unroll `neurons.lif` over the steps."""
        if layer.gain != 1:
            scaled = f"{name}.input"
            self.add("Mul", [current, self.constant(f"{name}.gain", torch.tensor(layer.gain))], scaled)
            if current in self._timed:
                self._timed.add(scaled)
            current = scaled
        currents = [current] * self._steps
        if current in self._timed and self._steps > 1:
            currents = [f"{name}.{t}.current" for t in range(self._steps)]
            self.add("Split", [current], *currents, axis=0, num_outputs=self._steps)
        threshold = self.constant(f"{name}.threshold", torch.tensor(layer.threshold))
        if self._steps > 1:
            self.constant(f"{name}.decay", torch.tensor(layer.decay))
        u, previous = currents[0], ""
        spikes = []
        for t, at in enumerate(f"{name}.{t}" for t in range(self._steps)):
            if t > 0:
                self._reset(previous, u, threshold, layer.reset)
                self.add("Mul", [f"{previous}.reset", f"{name}.decay"], f"{at}.kept")
                self.add("Add", [f"{at}.kept", currents[t]], f"{at}.potential")
                u = f"{at}.potential"
            self.add("GreaterOrEqual", [u, threshold], f"{at}.fired")
            self.add("Cast", [f"{at}.fired"], at + SPIKES, to=FLOAT)
            spikes.append(at + SPIKES)
            previous = at
        self.add("Concat", spikes, name, axis=0)
        self._timed.add(name)

    def _reset(self, at: str, potential: str, threshold: str, reset: str) -> None:
        """Add the reset of the potential after a step's spikes."""
        lost = threshold if reset == "soft" else potential
        self.add("Mul", [at + SPIKES, lost], f"{at}.lost")
        self.add("Sub", [potential, f"{at}.lost"], f"{at}.reset")

    def mean_over_time(self, name: str, width: int, to: str) -> None:
        """Add the mean over the time steps of a value [T·B, width]."""
        if name not in self._timed:
            self.add("Identity", [name], to)
            return
        shape = self.constant(f"{to}.shape", torch.tensor([self._steps, -1, width]))
        self.add("Reshape", [name, shape], f"{to}.steps")
        self.add("ReduceMean", [f"{to}.steps", self.constant(f"{to}.time", torch.tensor([0]))], to, keepdims=0)
