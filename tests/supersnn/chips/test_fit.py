"""The limits of chips: of this package's families, and of graphs that are at a limit or just above it."""

from typing import get_args

import pytest
import torch
from torch import nn

from supersnn.chips.fit import excesses, excesses_of
from supersnn.chips.limits import CHIPS
from supersnn.config import NetworkConfig, NeuronConfig
from supersnn.export_config import ChipName
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
)
from supersnn.networks.base import ImageShape, Network
from supersnn.networks.build import build

SHAPE = ImageShape(3, 32)
INTEGRATING = Neurons(threshold=1.0, decay=1.0, reset="soft")
SPECK_ALWAYS = {"decay", "input", "read-out", "bias"}
"""What every student of images with leaky neurons exceeds on Speck."""


def limits_of(architecture: str, chip: str, bits: int | None = 8, **neuron: str) -> dict[str, str]:
    config = NetworkConfig(architecture=architecture)
    network = build(config, NeuronConfig.model_validate(neuron), SHAPE, 10)
    return {one.limit: str(one) for one in excesses_of(network, SHAPE, chip, bits)}


def conv(inputs: int, outputs: int, side: int = 3, stride: int = 1, padding: int = 1) -> Convolution:
    weight = torch.ones(outputs, inputs, side, side)
    return Convolution(weight, torch.zeros(outputs), (stride, stride), (padding, padding))


def sequence(shape: tuple[int, int, int], *layers: tuple[Layer, tuple[int, ...]]) -> Graph:
    """Return a graph of layers one after another, each with the shape of its output, named by their positions."""
    names = [INPUT, *map(str, range(len(layers)))]
    nodes = {names[at + 1]: Node(layer, (names[at],), out) for at, (layer, out) in enumerate(layers)}
    return Graph(nodes, shape, 2)


def test_every_target_has_limits() -> None:
    assert set(get_args(ChipName)) == set(CHIPS)
    for chip in CHIPS.values():
        assert chip.unknown


def test_vgg_exceeds_the_memory_of_speck_and_fits_the_others() -> None:
    found = limits_of("vgg8", "speck")
    assert found.keys() == SPECK_ALWAYS | {"weights of a core"}
    # 512 inputs, 3x3 rounded up to 16, 512 outputs
    assert "takes 4,194,304 entries; a core has at most 65,536 (and 3 more layers)" in found["weights of a core"]
    assert limits_of("vgg8", "loihi2") == {}
    assert limits_of("vgg8", "spinnaker2", reset="soft") == {}
    assert "14; the chip has 9 cores" in limits_of("vgg16", "speck")["layers"]


def test_resnet_has_shortcuts_that_speck_does_not() -> None:
    found = limits_of("resnet8", "speck")
    assert found.keys() == SPECK_ALWAYS | {"residual connections", "layers"}
    assert "body.0.activation2 adds up 2 layers" in found["residual connections"]
    assert found["residual connections"].endswith("(and 2 more layers)")
    assert limits_of("resnet8", "loihi2") == {}
    assert limits_of("resnet8", "spinnaker2") == {}


@pytest.mark.slow
def test_large_resnets_exceed_what_a_chip_has_in_all() -> None:
    # activations of ResNet-19: 7 layers of 128x32x32, then 6 of 256x16x16 and 4 of 512x8x8, 8,192 neurons a core
    assert limits_of("resnet19", "loihi2").keys() == {"cores"}
    assert "at least 177 cores; the chip has 128" in limits_of("resnet19", "loihi2")["cores"]
    assert limits_of("resnet34", "spinnaker2").keys() == {"memory"}


@pytest.mark.parametrize("chip", list(CHIPS))
def test_wrn_passes_currents_from_layer_to_layer(chip: str) -> None:
    found = limits_of("wrn16_2", chip)
    assert "none between body.0.conv2 and body.1.norm1" in found["neurons between layers"]
    assert (found.keys() >= SPECK_ALWAYS) == (chip == "speck")


def test_weights_resets_and_neurons_are_compared() -> None:
    assert limits_of("resnet8", "loihi2", bits=None).keys() == {"weights"}
    assert "of 16 bits; the chip has 8" in limits_of("resnet8", "loihi2", bits=16)["weights"]
    assert "soft reset; the chip's tools have hard" in limits_of("resnet8", "loihi2", reset="soft")["reset"]
    assert "is a ReLU" in limits_of("resnet8", "loihi2", kind="relu")["neurons"]


def test_a_network_for_speck_exceeds_nothing() -> None:
    speck = sequence(
        (2, 64, 64),
        (conv(2, 16), (16, 64, 64)),
        (INTEGRATING, (16, 64, 64)),
        (AveragePool((4, 4), (4, 4)), (16, 16, 16)),
        (conv(16, 32), (32, 16, 16)),
        (INTEGRATING, (32, 16, 16)),
        (AveragePool((2, 2), (2, 2)), (32, 8, 8)),
        (Flatten(), (2048,)),
        (Affine(torch.ones(10, 2048), torch.zeros(10)), (10,)),
        (INTEGRATING, (10,)),
    )
    found = {one.limit for one in excesses(speck, "speck", 8)}
    assert found == {"input", "bias"}  # every graph has an image for its input, and biases


@pytest.mark.parametrize(
    ("layer", "limit"),
    [
        (conv(4, 8, side=17, padding=7), "kernel size"),
        (conv(4, 8, side=3, padding=8), "padding"),
        (conv(4, 1025, side=1, padding=0), "channels"),
        (conv(4, 8, side=3, stride=3), "stride"),
    ],
)
def test_a_layer_above_a_limit_is_named(layer: Convolution, limit: str) -> None:
    side = (16 + 2 * layer.padding[0] - layer.weight.shape[2]) // layer.stride[0] + 1
    shape = (len(layer.weight), side, side)
    graph = sequence((4, 16, 16), (layer, shape), (INTEGRATING, shape))
    found = {one.limit: one for one in excesses(graph, "speck", 8)}
    assert found[limit].layers == ("0",)
    assert limit not in {one.limit for one in excesses(graph, "loihi2", 8)}


def test_sides_of_maps_are_compared() -> None:
    large = sequence((1, 256, 256), (conv(1, 1), (1, 256, 256)), (INTEGRATING, (1, 256, 256)))
    found = {one.limit: str(one) for one in excesses(large, "speck", 8)}
    assert "256 pixels; the chip has at most 128" in found["side of an input"]
    assert "256 pixels; the chip has at most 64" in found["side of a map"]
    assert "neurons of a core" not in found  # 65,536 neurons are what the largest cores have


def test_layers_compete_for_the_cores_with_much_memory() -> None:
    """Two of Speck's cores hold 64 Ki weights: a third such layer finds none, although each of them fits alone."""

    def layers(count: int) -> Graph:
        shape = (64, 8, 8)
        layer: list[tuple[Layer, tuple[int, ...]]] = [(conv(64, 64), shape), (INTEGRATING, shape)]
        wide = layer * count  # each takes 64 · 16 · 64 entries
        return sequence((64, 8, 8), *wide)

    assert "memory of the cores" not in {one.limit for one in excesses(layers(2), "speck", 8)}
    found = {one.limit: one for one in excesses(layers(3), "speck", 8)}
    assert found["memory of the cores"].layers == ("4",)


def test_the_sides_of_a_map_take_neuron_memory_as_powers_of_two() -> None:
    """sinabs' `memory_summary`: f · 2^(⌈log2 h⌉ + ⌈log2 w⌉); 36·36 neurons take 64·64 entries."""
    shape = (20, 36, 36)
    wide = sequence((1, 36, 36), (conv(1, 20), shape), (INTEGRATING, shape))
    found = {one.limit: str(one) for one in excesses(wide, "speck", 8)}
    assert "takes 81,920 entries; a core has at most 65,536" in found["neurons of a core"]


def test_cores_are_matched_by_rounded_neuron_memory() -> None:
    """Three cores hold 64 Ki neurons: a fourth layer of 17·17·40 neurons, 40,960 entries, finds none."""

    def layers(count: int) -> Graph:
        shape = (40, 17, 17)
        layer: list[tuple[Layer, tuple[int, ...]]] = [(conv(40, 40, side=1, padding=0), shape), (INTEGRATING, shape)]
        return sequence((40, 17, 17), *(layer * count))

    assert "memory of the cores" not in {one.limit for one in excesses(layers(3), "speck", 8)}
    assert "memory of the cores" in {one.limit for one in excesses(layers(4), "speck", 8)}


def test_a_network_without_graph_is_a_finding() -> None:
    class Recurrent(Network):
        def forward(self, images: torch.Tensor) -> object:  # type: ignore[override]
            return super().forward(images)

    network = Recurrent(1, nn.Identity(), nn.ReLU(), nn.Identity(), 3, 10)
    (found,) = excesses_of(network, SHAPE, "loihi2")
    assert found.limit == "layers"
    assert "a forward method of its own" in found.text
