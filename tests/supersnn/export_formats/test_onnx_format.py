from collections.abc import Callable
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch

from supersnn.augment import normalise
from supersnn.export_formats import onnx_format
from supersnn.export_formats.agreement import compare, run_student
from supersnn.export_formats.graph import graph_of
from supersnn.networks.base import ImageShape, Network

SHAPE = ImageShape(3, 16)
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


@pytest.mark.parametrize(
    ("architecture", "steps", "neuron"),
    [
        ("resnet8", 2, {}),
        ("resnet8", 1, {}),
        ("resnet8", 3, {"reset": "soft", "kind": "plif"}),
        ("vgg8", 2, {}),
        ("wrn16_2", 2, {}),
        ("wrn16_2", 2, {"kind": "relu"}),
    ],
)
def test_read_back_and_run_the_logits_are_the_same(
    made: Callable[..., Network], tmp_path: Path, architecture: str, steps: int, neuron: dict[str, str]
) -> None:
    network = made(architecture, steps=steps, **neuron)
    path = tmp_path / "student.onnx"
    onnx_format.write(graph_of(network, SHAPE), MEAN, STD, path)
    pixels = torch.randint(0, 256, (24, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    expected = run_student(network, normalise(pixels, MEAN, STD))
    agreement = compare(expected, onnx_format.run(path, pixels))
    assert agreement.within_tolerance(), agreement
    assert agreement.same_spikes >= 0.9 * agreement.images

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for batch in (1, 24):
        (logits,) = session.run(None, {"pixels": pixels[:batch].numpy()})
        off = (torch.from_numpy(logits) - expected.logits[:batch]).abs().amax(1)
        assert (off <= 1e-4).float().mean() >= 0.9


def test_the_program_says_what_it_takes_and_gives(made: Callable[..., Network], tmp_path: Path) -> None:
    onnx_format.write(graph_of(made(), SHAPE), MEAN, STD, tmp_path / "student.onnx")
    graph = onnx.load(tmp_path / "student.onnx").graph
    (takes,), (gives,) = graph.input, graph.output
    sizes = [[d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in (takes, gives)]
    assert sizes == [["B", 3, 16, 16], ["B", 5]]
    assert takes.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert {node.domain for node in graph.node} == {""}
