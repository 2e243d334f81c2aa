from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from supersnn.export_formats.agreement import Run, compare, run_student
from supersnn.export_formats.graph import Convolution, Graph, UnsupportedLayerError, graph_of
from supersnn.networks.base import ImageShape, Network

Made = Callable[..., Network]
SHAPE = ImageShape(3, 16)


@pytest.mark.parametrize("architecture", ["resnet8", "vgg8", "wrn16_2"])
@pytest.mark.parametrize(
    "neuron", [{}, {"kind": "plif", "reset": "soft"}, {"kind": "relu"}], ids=["lif", "plif", "relu"]
)
def test_the_graph_does_what_the_network_does(
    made: Made, images: Tensor, run_slowly: Callable[[Graph, Tensor], Run], architecture: str, neuron: dict[str, str]
) -> None:
    network = made(architecture, steps=3, **neuron)
    expected = run_student(network, images)
    agreement = compare(expected, run_slowly(graph_of(network, SHAPE), images))
    assert agreement.within_tolerance(), agreement
    assert agreement.same_spikes >= 0.9 * agreement.images
    if neuron.get("kind") != "relu":
        rates = [float(spikes.mean()) for spikes in expected.spikes.values()]
        assert min(rates) > 0.01
        assert max(rates) < 0.99


def test_norms_behind_convolutions_are_gone_and_the_others_are_diagonal(made: Made) -> None:
    resnet, wrn = (graph_of(made(name), SHAPE).nodes for name in ("resnet8", "wrn16_2"))
    assert not [name for name in resnet if "norm" in name]
    left = [node.layer for name, node in wrn.items() if "norm1" in name]
    assert left
    for layer in left:
        assert isinstance(layer, Convolution)
        square = layer.weight[:, :, 0, 0]
        assert torch.equal(square, square.diag().diag())


def test_the_network_stays_as_it_was(made: Made) -> None:
    network = made("wrn16_2").train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    graph_of(network, SHAPE)
    assert network.training
    assert network.body.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (nn.MaxPool2d(1), "body.1.*MaxPool2d"),
        (nn.AvgPool2d(2, padding=1), "body.1.*padding"),
        (nn.Conv2d(512, 512, 1, padding="same"), "body.1.*same"),
        (nn.AdaptiveAvgPool2d(2), "body.1.*adaptive"),
        (nn.Softmax(1), "body.1.*Softmax"),
    ],
)
def test_what_has_no_counterpart_is_named(made: Made, layer: nn.Module, words: str) -> None:
    network = made("vgg8")
    network.body = nn.Sequential(network.body, layer)
    with pytest.raises(UnsupportedLayerError, match=words):
        graph_of(network, SHAPE)


class InPlace(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.add_(x) + x


def test_a_sum_in_place_of_a_value_read_twice_is_refused(made: Made) -> None:
    network = made("vgg8")
    network.body = nn.Sequential(network.body, InPlace())
    with pytest.raises(UnsupportedLayerError, match="in-place"):
        graph_of(network, SHAPE)


def test_rounding_is_forgiven_and_a_wrong_layer_is_not(
    made: Made, images: Tensor, run_slowly: Callable[[Graph, Tensor], Run]
) -> None:
    network = made("resnet8")
    expected = run_student(network, images)
    one = {name: spikes.clone() for name, spikes in expected.spikes.items()}
    one["activation"][0, 0, 0, 0] = 1 - one["activation"][0, 0, 0, 0]
    one["body.2.activation2"][0] = 1 - one["body.2.activation2"][0]  # a consequence: it comes later in the same image
    agreement = compare(expected, Run(expected.logits, one))
    assert agreement.within_tolerance()
    assert agreement.same_spikes == agreement.images - 1
    assert compare(expected, expected).logits_difference == 0
    assert not compare(expected, Run(expected.logits + 2e-4, expected.spikes)).within_tolerance()
    other = made("resnet8", decay=0.42)
    other.load_state_dict(network.state_dict())
    assert not compare(expected, run_slowly(graph_of(other, SHAPE), images)).within_tolerance()
