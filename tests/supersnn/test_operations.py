import pytest
import torch
from torch import nn

from supersnn.networks.base import ImageShape, Network
from supersnn.neurons import LIF
from supersnn.operations import count, layer_macs

SHAPE = ImageShape(1, 4)

STEM = 4 * 4 * 2 * 9  # positions x output channels x fan-in
INNER = 2 * 2 * 3 * 18
READOUT = 5 * 3


def network(steps: int, spiking: bool = True) -> Network:
    def activation() -> nn.Module:
        return LIF(steps) if spiking else nn.ReLU()

    body = nn.Sequential(nn.Conv2d(2, 3, 3, 2, 1, bias=False), nn.BatchNorm2d(3), activation())
    return Network(steps, nn.Conv2d(1, 2, 3, padding=1), activation(), body, channels=3, classes=5)


def test_the_stem_runs_once_and_every_later_layer_at_every_step() -> None:
    assert layer_macs(network(2), SHAPE) == {"stem": STEM, "body.0": 2 * INNER, "readout": 2 * READOUT}


def test_only_non_zero_inputs_cost_a_spiking_network_anything() -> None:
    found = count(network(2), SHAPE, {"stem": 1.0, "body.0": 0.25, "readout": 0.5})
    assert found.mac == STEM
    assert found.synaptic == 0.25 * 2 * INNER + 0.5 * 2 * READOUT
    assert found.energy_nj == pytest.approx((4.6 * found.mac + 0.9 * found.synaptic) / 1000)


def test_an_artificial_network_multiplies_everywhere() -> None:
    found = count(network(1, spiking=False), SHAPE, {"stem": 1.0, "body.0": 0.25, "readout": 0.5})
    assert (found.mac, found.synaptic) == (STEM + INNER + READOUT, 0)


def test_the_energy_of_one_operation_can_be_changed() -> None:
    density = {"stem": 1.0, "body.0": 0.25, "readout": 0.5}
    found = count(network(2), SHAPE, density, mac_pj=1000.0, ac_pj=0.0)
    assert found.energy_nj == STEM


def test_counting_leaves_no_trace() -> None:
    counted = network(2).train()
    before = {name: value.clone() for name, value in counted.state_dict().items()}
    layer_macs(counted, SHAPE)
    assert counted.training
    assert not any(module._forward_hooks for module in counted.modules())
    assert all(torch.equal(value, before[name]) for name, value in counted.state_dict().items())
