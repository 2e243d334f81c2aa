"""Accuracy and cost after each step and of an early exit, against runs with fewer steps and loops over images."""

from collections.abc import Callable

import pytest
import torch

from supersnn.anytime import _points, anytime, rows
from supersnn.config import NetworkConfig, NeuronConfig, TrainConfig
from supersnn.data import TrainingData
from supersnn.evaluation import evaluate
from supersnn.measurement import measure
from supersnn.networks.base import Network
from supersnn.networks.build import build

Configured = Callable[..., TrainConfig]


def made(bars: TrainingData, architecture: str, steps: int, kind: str = "lif") -> Network:
    torch.manual_seed(3)
    student = NetworkConfig(architecture=architecture, time_steps=steps, stem_stride=2)
    network = build(student, NeuronConfig(kind=kind, threshold=0.4), bars.shape, 4)
    network.train()
    with torch.no_grad():
        for _ in range(5):  # statistics of the norms
            network(torch.randn(32, 1, 8, 8))
    return network.eval()


@pytest.mark.parametrize("architecture", ["resnet8", "vgg8", "resnet19_tet"])
def test_after_each_step_it_is_a_network_of_so_many_steps(bars: TrainingData, architecture: str) -> None:
    whole = made(bars, architecture, 3)
    found = anytime(whole, bars.validation, bars.shape, bars.mean, bars.std, batch_size=16)
    assert [point.at for point in found[:3]] == [1, 2, 3]
    for steps, point in enumerate(found[:3], start=1):
        shorter = made(bars, architecture, steps)
        shorter.load_state_dict(whole.state_dict())
        measured = measure(shorter, bars.validation, bars)
        assert point.accuracy == measured.evaluation.accuracy
        assert point.steps == steps
        assert point.synaptic_ops == pytest.approx(measured.operations.synaptic)
        assert point.energy_nj == pytest.approx(measured.operations.energy_nj)


def test_an_early_exit_is_each_images_first_confident_step() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, labels = 2 * torch.randn(4, 50, 3, generator=generator), torch.arange(50) % 3
    operations = torch.randint(1, 100, (4, 50), generator=generator).double()
    macs = torch.tensor([250.0, 500.0, 750.0, 1000.0])
    (*_, point) = _points(logits, operations, labels, macs, [0.7])
    steps, right, spent, multiplied = 0, 0, 0.0, 0.0
    for image in range(50):
        for step in range(4):
            mean = logits[: step + 1, image].mean(0)
            spent += float(operations[step, image])
            if mean.softmax(0).max() >= 0.7 or step == 3:
                steps, right = steps + step + 1, right + int(mean.argmax() == labels[image])
                multiplied += float(macs[step])
                break
    assert point.rule == "confidence"
    assert (point.steps, point.accuracy, point.synaptic_ops) == pytest.approx((steps / 50, right / 50, spent / 50))
    assert point.energy_nj == pytest.approx((multiplied / 50 * 4.6 + spent / 50 * 0.9) / 1000)
    assert 1 < point.steps < 4


def test_the_ends_of_the_scale_are_one_step_and_all(bars: TrainingData) -> None:
    network = made(bars, "resnet8", 3)
    found = anytime(network, bars.validation, bars.shape, bars.mean, bars.std, confidences=[0.0, 1.0])
    first, _, last, least, most = found
    assert least[2:] == first[2:]
    assert most[2:] == pytest.approx(last[2:])
    assert rows(found)[0].keys() == {"rule", "at", "steps", "accuracy", "synaptic_ops", "energy_nj"}
    assert network.training is False
    assert not any(module._forward_pre_hooks for module in network.modules())
    assert evaluate(network, bars.validation, bars.mean, bars.std).accuracy == last.accuracy


def test_a_network_without_spikes_has_no_steps(bars: TrainingData) -> None:
    network = made(bars, "resnet8", 1, "relu")
    assert anytime(network, bars.validation, bars.shape, bars.mean, bars.std) == []
