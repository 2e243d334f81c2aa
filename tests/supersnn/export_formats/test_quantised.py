"""Integer weights and thresholds: what they are, and that a student of digits keeps its accuracy with them."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from analysis.paired_images import not_worse
from supersnn import checkpoint
from supersnn.augment import normalise
from supersnn.config import TrainConfig
from supersnn.data import Images, TrainingData, training_data
from supersnn.export_formats import int8_format
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
    graph_of,
)
from supersnn.export_formats.graph_cost import measured
from supersnn.export_formats.quantised import quantised
from supersnn.measurement import measure
from supersnn.networks.base import ImageShape, Network
from supersnn.networks.build import build
from supersnn.neurons import LIF
from supersnn.training import train

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


LOSS = {"resnet8": 0.005, "vgg8": 0.015}
"""The largest loss of accuracy with 8 bits: half a point, but more for VGG: about one after so few epochs."""
Student = tuple[Network, TrainingData, float]


@pytest.fixture(scope="module", params=[pytest.param("vgg8", marks=pytest.mark.slow), "resnet8"])
def student(request: pytest.FixtureRequest, configured: Callable[..., TrainConfig]) -> Student:
    config = configured(
        student__architecture=request.param, student__stem_stride=1, train__epochs=4, dataset__validation=0.4
    )
    data = training_data(config.dataset)
    *_, last = train(config, data)
    network = build(config.student, config.neuron, data.shape, 10).eval()
    network.load_state_dict(checkpoint.student_weights(last.snapshot()[0]))
    return network, data, LOSS[request.param]


def test_a_graph_is_worth_what_its_network_is(student: Student) -> None:
    network, data, _ = student
    own = measure(network, data.validation, data)
    found = measured(graph_of(network, data.shape), data.validation, data.mean, data.std)
    assert found.accuracy == pytest.approx(own.evaluation.accuracy, abs=0.003)
    assert found.rate == pytest.approx(own.evaluation.rate, rel=0.01)


def test_eight_bits_keep_the_accuracy(student: Student) -> None:
    network, data, most = student
    graph = graph_of(network, data.shape)
    integers, scales = quantised(graph)
    for name, node in integers.nodes.items():
        if isinstance(node.layer, Convolution | Affine):
            assert torch.equal(node.layer.weight, node.layer.weight.round())
            assert node.layer.weight.abs().max() <= 127
        if isinstance(node.layer, Neurons):
            assert node.layer.threshold == int(node.layer.threshold)
            assert scales[name] > 0
    before = measured(graph, data.validation, data.mean, data.std)
    after = measured(integers, data.validation, data.mean, data.std)
    assert before.accuracy > 0.8
    count = len(data.validation)
    lost, gained = int((before.right & ~after.right).sum()), int((after.right & ~before.right).sum())
    assert count >= 500
    assert lost - gained <= most * count
    assert not_worse(count, gained, lost).verdict != "worse"  # so few images cannot show that others are within
    assert after.rate == pytest.approx(before.rate, rel=0.05)
    assert after.energy_nj == pytest.approx(before.energy_nj, rel=0.05)
    coarse = measured(quantised(graph, bits=2)[0], data.validation, data.mean, data.std)
    assert coarse.accuracy < after.accuracy - 0.05
    with pytest.raises(ValueError, match="expected 2 to 16, found 1"):
        quantised(graph, bits=1)


def test_poolings_that_leave_out_rows_are_sums_of_integers(odd: tuple[Network, Tensor, ImageShape]) -> None:
    network, images, shape = odd
    pixels = (images * 40 + 128).clamp(0, 255).to(torch.uint8)
    with torch.no_grad():
        labels = network(normalise(pixels, MEAN, STD)).logits.mean(0).argmax(1)
    found = int8_format.compared(network, Images(pixels, labels, torch.arange(24)), shape, MEAN, STD)
    assert "refused" not in found
    assert found["float"]["accuracy"] == 1, "the graph has the network's classes"
    assert found["int8"]["accuracy"] > 0.8
    assert found["int8"]["spike_rate"] == pytest.approx(found["float"]["spike_rate"], rel=0.05)
    assert found["int8"]["synaptic_ops"] == pytest.approx(found["float"]["synaptic_ops"], rel=0.1)


def test_a_file_of_integers_with_sums_is_read_back(odd: tuple[Network, Tensor, ImageShape], tmp_path: Path) -> None:
    network, _, shape = odd
    int8_format.write(network, shape, tmp_path / "student-int8.safetensors")
    back = int8_format.read(network, shape, tmp_path / "student-int8.safetensors")
    expected, _ = quantised(graph_of(network, shape))
    assert back.nodes.keys() == expected.nodes.keys()
    assert sum(isinstance(node.layer, SumPool) for node in back.nodes.values()) == 2
    for name, node in expected.nodes.items():
        if isinstance(node.layer, Convolution | Affine):
            other = back.nodes[name].layer
            assert isinstance(other, Convolution | Affine)
            assert torch.equal(node.layer.weight, other.weight.double())


@pytest.mark.parametrize("side", [1, 2])
def test_a_spike_costs_the_outputs_that_it_feeds_with_a_weight_other_than_zero(side: int) -> None:
    generator = torch.Generator().manual_seed(1)

    def weights(*shape: int) -> Tensor:
        values = torch.randn(shape, generator=generator)
        return values * (torch.rand(shape, generator=generator) < 0.5)

    def neurons(name: str, *shape: int) -> Node:
        return Node(Neurons(0.2, 0.5, "hard"), (name,), shape)

    hidden = side * side * 4
    nodes = {
        "stem": Node(Convolution(weights(3, 1, 1, 1), torch.zeros(3)), (INPUT,), (3, 5, 5)),
        "first": neurons("stem", 3, 5, 5),
        "sum": Node(SumPool((2, 2), (2, 2)), ("first",), (3, 2, 2)),
        "conv": Node(Convolution(weights(4, 3, 3 - side, 3 - side), torch.zeros(4)), ("sum",), (4, side, side)),
        "second": neurons("conv", 4, side, side),
        "flat": Node(Flatten(), ("second",), (hidden,)),
        "affine": Node(Affine(weights(6, hidden), torch.zeros(6)), ("flat",), (6,)),
        "third": neurons("affine", 6),
        "last": Node(Affine(weights(2, 6), torch.zeros(2)), ("third",), (2,)),
    }
    pixels = torch.randint(0, 256, (5, 1, 5, 5), generator=generator, dtype=torch.uint8)
    images = Images(pixels, torch.zeros(5, dtype=torch.int64), torch.arange(5))
    total = 0.0
    for place in range(5):  # run by run, each spike's outputs counted one by one
        total += spent(nodes, normalise(pixels[place : place + 1], (0.5,), (0.2,)).double())
    assert total > 0
    found = measured(Graph(nodes, (1, 5, 5), 3), images, (0.5,), (0.2,))
    assert found.synaptic_ops == pytest.approx(total / 5)


def spent(nodes: Mapping[str, Node], image: Tensor) -> float:
    """Return the operations of three steps: each spike's, alone, are the outputs that weights of one would give it."""
    potentials = {name: torch.zeros(()) for name, node in nodes.items() if isinstance(node.layer, Neurons)}
    total = 0.0
    for _ in range(3):
        value, spikes = image, image
        for name, node in nodes.items():
            match node.layer:
                case Convolution() | Affine():
                    if name != "stem":
                        total += sum(fed(node.layer, single, name) for single in singles(spikes))
                    value = linear(node.layer, value, node.layer.weight.double())
                case SumPool():
                    value = functional.avg_pool2d(value, 2, divisor_override=1)
                case Flatten():
                    value = value.flatten(1)
                case Neurons():
                    u = 0.5 * potentials[name] + value
                    value = spikes = (u >= 0.2).double()
                    potentials[name] = u * (1 - spikes)
    return total


def singles(spikes: Tensor) -> Iterator[Tensor]:
    """Yield the spikes one by one, each in a map of zeros."""
    for place in spikes.nonzero():
        single = torch.zeros_like(spikes)
        single[tuple(place)] = 1
        yield single


def fed(layer: Convolution | Affine, single: Tensor, name: str) -> float:
    """Return the number of outputs that a spike reaches."""
    if name == "conv":
        single = functional.avg_pool2d(single, 2, divisor_override=1)
    if single.dim() == 4 and isinstance(layer, Affine):
        single = single.flatten(1)
    return float(linear(layer, single, (layer.weight != 0).double()).sum())


def linear(layer: Convolution | Affine, values: Tensor, weight: Tensor) -> Tensor:
    return functional.conv2d(values, weight) if isinstance(layer, Convolution) else values @ weight.T


def test_weights_that_feed_no_neurons_are_refused() -> None:
    body = nn.Sequential(nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3), LIF(2))
    network = Network(2, nn.Conv2d(1, 4, 3), LIF(2), body, 4, 3)
    with pytest.raises(UnsupportedLayerError, match=r"body\.0: a layer with weights that feeds no neurons"):
        quantised(graph_of(network, ImageShape(1, 9)))
