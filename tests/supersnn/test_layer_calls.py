"""How layers are called, and what the counts by step of plain modules are, against the same network folded in time."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from supersnn import plugins
from supersnn.anytime import anytime
from supersnn.config import NetworkConfig, NeuronConfig
from supersnn.data import TrainingData
from supersnn.evaluation import evaluate
from supersnn.layer_calls import Calls, StepSums, calls_of, known
from supersnn.measurement import measure
from supersnn.networks.adapter import AdaptedNetwork
from supersnn.networks.base import Network, evaluating
from supersnn.networks.build import build
from supersnn.neurobench import neurobench
from supersnn.neurons import LIF
from supersnn.operations import weighted_layers

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "adapted"
NETWORKS = {
    "of_snntorch:Dense": "stepwise",
    "of_snntorch:convolutional": "stepwise",
    "of_spikingjelly:convolutional": "whole",
    "of_spikingjelly:single": "stepwise",
    "of_norse:dense": "stepwise",
}
STEPS = 4


class Neurons(nn.Module):
    """Neurons that are called at each step, and are at rest before the first one."""

    spiking = True

    def __init__(self) -> None:
        super().__init__()
        self.calls, self.potential = 0, torch.zeros(())

    def forward(self, current: Tensor) -> Tensor:
        before = self.potential if self.calls % STEPS else torch.zeros_like(current)
        potential = 0.5 * before + current
        spikes = (potential >= 1).to(current.dtype)
        self.calls, self.potential = self.calls + 1, potential * (1 - spikes)
        return spikes


class Folded(nn.Module):
    """Time folded into the batch; with `repeat` the images are, so that the first layer runs at every step."""

    def __init__(self, repeat: bool) -> None:
        super().__init__()
        self.repeat = repeat
        self.first, self.second, self.last = nn.Conv2d(1, 4, 3, 2), nn.Conv2d(4, 6, 3), nn.Linear(6, 4)
        self.neurons, self.others = LIF(STEPS, 1.0, 0.5), LIF(STEPS, 1.0, 0.5)

    def forward(self, images: Tensor) -> Tensor:
        if self.repeat:
            spikes = self.neurons(self.first(images.repeat(STEPS, 1, 1, 1)))
        else:
            spikes = self.neurons(self.first(images), constant=True)
        return self.last(self.others(self.second(spikes)).flatten(1)).unflatten(0, (STEPS, -1))


class Stepped(nn.Module):
    """The same layers in a loop over the steps."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Conv2d(1, 4, 3, 2), nn.Conv2d(4, 6, 3), nn.Linear(6, 4)
        self.neurons, self.others = Neurons(), Neurons()

    def forward(self, images: Tensor) -> Tensor:
        return torch.stack([self.step(images) for _ in range(STEPS)])

    def step(self, images: Tensor) -> Tensor:
        spikes = self.neurons(self.first(images))
        found: Tensor = self.last(self.others(self.second(spikes)).flatten(1))
        return found


class Called(Stepped):
    """The same layers, called at each step."""

    time_loop = "outside"

    def forward(self, images: Tensor) -> Tensor:
        return self.step(images)


def adapted(module: nn.Module, bars: TrainingData) -> Network:
    torch.manual_seed(4)
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.reset_parameters()
            layer.weight.data *= 3
    return AdaptedNetwork("module", module, STEPS, bars.shape).eval()


@pytest.mark.parametrize("module", [Folded(repeat=True), Stepped(), Called()], ids=["folded", "stepped", "called"])
def test_the_same_network_costs_the_same_however_it_goes_over_time(bars: TrainingData, module: nn.Module) -> None:
    reference, network = adapted(Folded(repeat=False), bars), adapted(module, bars)
    args = bars.validation, bars.shape, bars.mean, bars.std
    expected, found = anytime(reference, *args), anytime(network, *args, batch_size=36)  # then 4, as many as steps
    mac = measure(reference, bars.validation, bars).operations.mac
    assert 0 < found[0].synaptic_ops < found[3].synaptic_ops
    for one, other in zip(found, expected, strict=True):
        assert one[:4] == other[:4]
        assert one.synaptic_ops == pytest.approx(other.synaptic_ops)
        multiplied = one.steps * mac  # the first layer runs at every step, that of the reference once
        assert one.energy_nj == pytest.approx((4.6 * multiplied + 0.9 * one.synaptic_ops) / 1000)
        assert other.energy_nj == pytest.approx((4.6 * mac + 0.9 * one.synaptic_ops) / 1000)
    whole = measure(network, bars.validation, bars)
    assert found[3].energy_nj == pytest.approx(whole.operations.energy_nj)
    assert found[3].synaptic_ops == pytest.approx(whole.operations.synaptic)
    counted, others = (neurobench(one, bars.validation, bars.mean, bars.std, 36) for one in (network, reference))
    updates = others.pop("ops/membrane_updates")
    assert counted.pop("ops/membrane_updates", updates) == updates
    assert counted == others
    assert 4 * 3 * 3 + 6 < updates <= STEPS * (4 * 3 * 3 + 6)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_other_libraries_have_all_metrics_of_a_final_run(bars: TrainingData, name: str) -> None:
    pytest.importorskip(name.partition(":")[0].removeprefix("of_"))
    plugins.activate([str(EXAMPLE)])
    torch.manual_seed(3)
    config = NetworkConfig(architecture=f"adapted.{name}", time_steps=STEPS)
    network = build(config, NeuronConfig(), bars.shape, 4).eval()
    layers = dict(weighted_layers(network))
    calls = known(calls_of(network, layers, (1, 8, 8)))
    assert calls is not None
    assert {one.kind for one in calls.values()} == {NETWORKS[name]}
    found = anytime(network, bars.validation, bars.shape, bars.mean, bars.std, batch_size=36)
    measured = measure(network, bars.validation, bars)
    assert [point.at for point in found[:STEPS]] == [1, 2, 3, 4]
    assert found[STEPS - 1].accuracy == measured.evaluation.accuracy
    assert found[STEPS - 1].synaptic_ops == pytest.approx(measured.operations.synaptic)
    assert found[STEPS - 1].energy_nj == pytest.approx(measured.operations.energy_nj)
    first = (measured.operations.mac / STEPS * 4.6 + found[0].synaptic_ops * 0.9) / 1000
    assert found[0].energy_nj == pytest.approx(first)
    counted = neurobench(network, bars.validation, bars.mean, bars.std, batch_size=36)
    assert counted == neurobench(network, bars.validation, bars.mean, bars.std)
    assert counted["spikes/activation_sparsity"] == pytest.approx(1 - (measured.evaluation.rate or 0))
    assert "ops/membrane_updates" not in counted, "the potentials of others' neurons are not known"


class Halves(nn.Module):
    """A network that takes a batch in two parts, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.whole = Folded(repeat=True)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits = torch.cat([self.whole(part) for part in images.tensor_split(2)], 1)
        return logits, logits[..., None, None]


def test_metrics_that_need_the_steps_are_left_out_where_they_cannot_be_told(bars: TrainingData) -> None:
    network = adapted(Halves(), bars)
    assert set(calls_of(network, dict(weighted_layers(network)), (1, 8, 8)).values()) == {None}
    assert anytime(network, bars.validation, bars.shape, bars.mean, bars.std) == []
    found = neurobench(network, bars.validation, bars.mean, bars.std)
    rate = evaluate(network, bars.validation, bars.mean, bars.std).rate
    assert found["spikes/activation_sparsity"] == pytest.approx(1 - (rate or 0))


def test_sums_are_those_of_each_step_and_image() -> None:
    values = torch.arange(24.0).reshape(2, 3, 4)
    expected = values.sum(2).double()
    calls = {"folded": Calls("whole"), "twice": Calls("stepwise", 2), "once": Calls("once")}

    def summed(name: str, parts: list[Tensor]) -> Tensor:
        sums = StepSums(2, 3, calls, torch.device("cpu"))
        for part in parts:
            sums.add(name, part)
        return sums.sums

    assert torch.equal(summed("folded", [values.flatten(0, 1)]), expected)
    assert torch.equal(summed("folded", [values]), expected)
    assert torch.equal(summed("twice", [values[0], values[0], values[1], values[1]]), 2 * expected)
    assert torch.equal(summed("once", [values[0]]), torch.stack([expected[0], torch.zeros(3).double()]))


def test_a_network_is_as_it_was_after_an_evaluation_that_fails() -> None:
    network, seen = nn.Linear(2, 1).train(), []
    hook = network.register_forward_pre_hook(lambda layer, inputs: seen.append((layer.training, inputs[0].shape)))

    def evaluated(images: Tensor) -> Tensor:
        with evaluating(network, [hook]):
            return network(images)

    with pytest.raises(RuntimeError):
        evaluated(torch.ones(1, 3))
    assert network(torch.ones(1, 2)).requires_grad
    assert network.training
    assert seen == [(False, (1, 3))], "the hook is removed"
    assert not evaluated(torch.ones(1, 2)).requires_grad
