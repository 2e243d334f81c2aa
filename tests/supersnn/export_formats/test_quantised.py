"""Integer weights and thresholds: what they are, and that a student of digits keeps its accuracy with them."""

from collections.abc import Callable

import pytest
import torch

from analysis.paired_images import not_worse
from supersnn import checkpoint
from supersnn.config import TrainConfig
from supersnn.data import TrainingData, training_data
from supersnn.export_formats.graph import Affine, Convolution, Neurons, graph_of
from supersnn.export_formats.graph_cost import measured
from supersnn.export_formats.quantised import quantised
from supersnn.measurement import measure
from supersnn.networks.base import Network
from supersnn.networks.build import build
from supersnn.training import train


@pytest.fixture(scope="module", params=[pytest.param("vgg8", marks=pytest.mark.slow), "resnet8"])
def student(request: pytest.FixtureRequest, configured: Callable[..., TrainConfig]) -> tuple[Network, TrainingData]:
    config = configured(
        student__architecture=request.param, student__stem_stride=1, train__epochs=4, dataset__validation=0.4
    )
    data = training_data(config.dataset)
    *_, last = train(config, data)
    network = build(config.student, config.neuron, data.shape, 10).eval()
    network.load_state_dict(checkpoint.student_weights(last.snapshot()[0]))
    return network, data


def test_a_graph_is_worth_what_its_network_is(student: tuple[Network, TrainingData]) -> None:
    network, data = student
    own = measure(network, data.validation, data)
    found = measured(graph_of(network, data.shape), data.validation, data.mean, data.std)
    assert found.accuracy == pytest.approx(own.evaluation.accuracy, abs=0.003)
    assert found.rate == pytest.approx(own.evaluation.rate, rel=0.01)


def test_eight_bits_keep_the_accuracy(student: tuple[Network, TrainingData]) -> None:
    network, data = student
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
    lost, gained = int((before.right & ~after.right).sum()), int((after.right & ~before.right).sum())
    assert not_worse(len(data.validation), gained, lost).verdict != "worse"  # so few images cannot show it is within
    assert after.rate == pytest.approx(before.rate, rel=0.05)
    assert after.energy_nj == pytest.approx(before.energy_nj, rel=0.05)
    coarse = measured(quantised(graph, bits=2)[0], data.validation, data.mean, data.std)
    assert coarse.accuracy < after.accuracy - 0.05
    with pytest.raises(ValueError, match="expected 2 to 16, found 1"):
        quantised(graph, bits=1)
