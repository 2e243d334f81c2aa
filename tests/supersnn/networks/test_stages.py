"""Stages of networks: where they end, and the maps and currents that are taken from them."""

import pytest
import torch
from torch import Tensor

from supersnn.config import NetworkConfig, NeuronConfig
from supersnn.errors import UserError
from supersnn.networks.base import ImageShape, Network
from supersnn.networks.build import ARCHITECTURES, build
from supersnn.networks.stages import Taps, stages


def network(architecture: str, kind: str = "lif", side: int = 32) -> Network:
    torch.manual_seed(0)
    return build(NetworkConfig(architecture=architecture), NeuronConfig(kind=kind), ImageShape(1, side), 4)


@pytest.mark.parametrize("kind", ["lif", "relu"])
@pytest.mark.parametrize(
    ("architecture", "ends"),
    [
        ("resnet8", ["body.0", "body.1", "body.2"]),
        ("vgg8", ["body.3", "body.7", "body.11", "body.15"]),
        ("wrn16_2", ["body.3", "body.7", "body.11"]),
        ("resnet18", ["body.1", "body.3", "body.5", "body.7"]),
    ],
)
def test_a_stage_ends_where_the_side_changes(architecture: str, ends: list[str], kind: str) -> None:
    built = network(architecture, kind)
    before = {name: value.clone() for name, value in built.state_dict().items()}
    found = stages(built, drawn(1, 1, 32, 32))
    assert [stage.end for stage in found] == ends
    assert built.training
    assert all(torch.equal(value, before[name]) for name, value in built.state_dict().items())
    for stage in found:
        assert (stage.neurons is None) == (kind == "relu")
        assert stage.neurons is None or stage.neurons.startswith(stage.end)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_has_three_stages(architecture: str) -> None:
    assert len(stages(network(architecture), drawn(1, 1, 32, 32))) >= 3


def test_torchvisions_networks_have_stages_too() -> None:
    assert len(stages(network("torchvision:resnet18", "relu"), drawn(1, 1, 32, 32))) >= 4


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("architecture", ["resnet8", "vgg8", "wrn16_2"])
def test_taps_return_the_maps_of_each_stage(architecture: str) -> None:
    built = network(architecture, side=16)
    plain = network(architecture, side=16)
    images = drawn(5, 1, 16, 16)
    taps = Taps(built, images[:1], ["last", "last-1", "last-2"])
    output, expected = built(images), plain(images)
    assert torch.equal(output.logits, expected.logits)
    maps = taps.take()
    assert torch.equal(maps["last"], output.features)
    assert [maps[name].shape[:2] for name in maps] == [(2, 5)] * 3
    sides = [maps[f"last-{back}"].shape[-1] for back in (2, 1)]
    assert sides[0] == 2 * sides[1] == 4 * maps["last"].shape[-1]
    assert set(maps["last-1"].unique().tolist()) == {0.0, 1.0}
    assert taps.take() == {}


@pytest.mark.parametrize("architecture", ["resnet8", "vgg8", "wrn16_2"])
def test_currents_are_those_that_made_the_last_spikes(architecture: str) -> None:
    built = network(architecture, side=16)
    images = drawn(5, 1, 16, 16)
    taps = Taps(built, images[:1], ["last"], currents=True)
    output = built(images)
    currents = taps.take()["last"]
    assert currents.shape == output.features.shape
    potentials = currents[0]
    assert torch.equal(output.features[0], (potentials >= 1).float())
    potentials = 0.5 * potentials * (potentials < 1) + currents[1]
    assert torch.equal(output.features[1], (potentials >= 1).float())
    (gradient,) = torch.autograd.grad(currents.square().sum(), next(built.stem.parameters()))
    assert gradient.abs().sum() > 0
    taps.remove()
    built(images)
    assert taps.take() == {}


def test_a_stage_that_is_not_there_is_named() -> None:
    with pytest.raises(UserError, match=r"layers: the student has 3 stages .* 'last-3'"):
        Taps(network("resnet8"), drawn(1, 1, 32, 32), ["last-3"])
