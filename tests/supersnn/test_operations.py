"""Operations against counting tap by tap, and against NeuroBench's published rule."""

import pytest
import torch
from torch import Tensor, nn

from supersnn.augment import normalise
from supersnn.config import NetworkConfig, NeuronConfig
from supersnn.data import Images
from supersnn.evaluation import evaluate
from supersnn.networks.base import ImageShape, Network
from supersnn.networks.build import build
from supersnn.neurons import LIF
from supersnn.operations import LayerInputs, count, dense_operations, fan_out

SHAPE = ImageShape(1, 4)
STEM = 100 * 2  # real taps of a 3x3 window with padding 1 on 4x4 positions, times output channels
INNER = 25 * 3 * 2  # with stride 2, on 4x4; times output and input channels
READOUT = 5 * 3


def network(steps: int, spiking: bool = True) -> Network:
    def activation() -> nn.Module:
        return LIF(steps) if spiking else nn.ReLU()

    body = nn.Sequential(nn.Conv2d(2, 3, 3, 2, 1, bias=False), nn.BatchNorm2d(3), activation())
    return Network(steps, nn.Conv2d(1, 2, 3, padding=1), activation(), body, channels=3, classes=5)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 6, 3, 1, 1),
        nn.Conv2d(4, 6, 3, 2, 1),
        nn.Conv2d(4, 6, 1, 2, 0),
        nn.Conv2d(4, 6, (3, 5), (2, 1), (0, 2), groups=2),
        nn.Conv2d(4, 6, 3, 1, 2, dilation=2),
        nn.Conv2d(4, 6, 3, 1, "same"),
        nn.Linear(8, 3),
    ],
)
def test_fan_out_is_what_a_single_input_changes(layer: nn.Conv2d | nn.Linear) -> None:
    shape = torch.Size([1, 8] if isinstance(layer, nn.Linear) else [1, 4, 7, 6])
    nn.init.ones_(layer.weight)
    every = fan_out(layer, shape)
    with torch.no_grad():
        layer.weight[torch.rand(layer.weight.shape, generator=torch.Generator().manual_seed(0)) < 0.3] = 0
        taps = fan_out(layer, shape).expand(shape)
        silent = layer(torch.zeros(shape))
        for position in torch.ones(shape).nonzero():
            single = torch.zeros(shape)
            single[tuple(position)] = 1.0
            assert int((layer(single) != silent).sum()) == int(taps[tuple(position)])
    assert torch.equal(fan_out(layer, shape, zeros=True), every)
    assert float(taps.sum()) < float(every.sum())


def test_the_stem_runs_once_and_every_later_layer_at_every_step() -> None:
    assert dense_operations(network(2), SHAPE) == {"stem": STEM, "body.0": 2 * INNER, "readout": 2 * READOUT}


def given(**binary: bool) -> dict[str, LayerInputs]:
    names = {"stem": "stem", "body": "body.0", "readout": "readout"}
    return {name: LayerInputs(0.5, 10.0 * (k + 1), binary[key]) for k, (key, name) in enumerate(names.items())}


def test_the_image_is_multiplied_and_spikes_and_their_averages_are_accumulated() -> None:
    operations = count(network(2), SHAPE, given(stem=False, body=True, readout=False))
    assert (operations.mac, operations.synaptic) == (STEM, 20.0 + 30.0)
    assert operations.energy_nj == pytest.approx((4.6 * STEM + 0.9 * 50) / 1000)
    assert (operations.effective_acs, operations.effective_macs) == (20.0, 10.0 + 30.0)
    assert operations.dense == STEM + 2 * INNER + 2 * READOUT


def test_an_artificial_network_multiplies_everywhere() -> None:
    operations = count(network(1, spiking=False), SHAPE, given(stem=False, body=False, readout=False))
    assert (operations.mac, operations.synaptic) == (STEM + INNER + READOUT, 0)


def test_the_energy_of_one_operation_can_be_changed() -> None:
    inputs = given(stem=False, body=True, readout=True)
    assert count(network(2), SHAPE, inputs, mac_pj=1000.0, ac_pj=0.0).energy_nj == STEM


def test_counting_leaves_no_trace() -> None:
    counted = network(2).train()
    before = {name: value.clone() for name, value in counted.state_dict().items()}
    dense_operations(counted, SHAPE)
    assert counted.training
    assert not any(module._forward_pre_hooks for module in counted.modules())
    assert all(torch.equal(value, before[name]) for name, value in counted.state_dict().items())


def neurobench(student: Network, pixels: Tensor) -> tuple[float, float, float]:
    """Return effective ACs, effective MACs and dense operations per image by NeuroBench's rule.

    Each layer is run again with ones for its non-zero (all, for dense) weights and inputs: the sum of the outputs is
    the number of operations. Inputs of -1, 0 and 1 alone make accumulates.
    """
    totals = {"ac": 0.0, "mac": 0.0, "dense": 0.0}

    def counting(layer: nn.Conv2d | nn.Linear, inputs: tuple[Tensor, ...]) -> None:
        def summed(values: Tensor, weight: Tensor) -> float:
            if isinstance(layer, nn.Linear):
                return float(nn.functional.linear(values, weight).sum())
            padding, dilation = layer.padding, layer.dilation
            return float(torch.conv2d(values, weight, None, layer.stride, padding, dilation, layer.groups).sum())

        (values,) = inputs
        spikes = bool(torch.isin(values, torch.tensor([-1.0, 0.0, 1.0])).all())
        totals["ac" if spikes else "mac"] += summed((values != 0).double(), (layer.weight != 0).double())
        totals["dense"] += summed(*(torch.ones_like(one, dtype=torch.float64) for one in (values, layer.weight)))

    hooks = [
        module.register_forward_pre_hook(counting)
        for module in student.modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    ]
    with torch.no_grad():
        student.eval()(pixels)
    for hook in hooks:
        hook.remove()
    return totals["ac"] / len(pixels), totals["mac"] / len(pixels), totals["dense"] / len(pixels)


@pytest.mark.parametrize("architecture", ["resnet8", "vgg8", "wrn16_2"])
def test_operations_are_neurobenchs_to_the_integer(architecture: str) -> None:
    shape = ImageShape(3, 16)
    with torch.random.fork_rng([]):
        torch.manual_seed(1)
        config = NeuronConfig(threshold=0.3)
        student = build(NetworkConfig(architecture=architecture), config, shape, 10)
        pixels = torch.randint(0, 256, (6, 3, 16, 16), dtype=torch.uint8)
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.2, 0.2)
    seen = evaluate(student, Images(pixels, torch.arange(6), torch.arange(6)), mean, std)
    operations = count(student, shape, seen.inputs)
    accumulates, multiplies, dense = neurobench(student, normalise(pixels, mean, std))
    found = operations.effective_acs, operations.effective_macs, operations.dense
    assert found == pytest.approx((accumulates, multiplies, dense), rel=1e-12)
    first = next(iter(dense_operations(student, shape)))
    image = operations.mac - seen.inputs[first].operations  # pixels of the mean are zero
    assert operations.synaptic + operations.mac == pytest.approx(accumulates + multiplies + image, rel=1e-12)
