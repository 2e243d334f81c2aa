"""NeuroBench's other metrics, against plain definitions of them, and against its package."""

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from supersnn.augment import normalise
from supersnn.config import NetworkConfig, NeuronConfig
from supersnn.data import Images
from supersnn.networks.base import ImageShape, Network
from supersnn.networks.build import build
from supersnn.neurobench import connection_sparsity, footprint, membrane_updates, neurobench
from supersnn.neurons import LIF

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.2, 0.2)


def network(architecture: str = "resnet8", **neuron: object) -> Network:
    with torch.random.fork_rng([]):
        torch.manual_seed(1)
        config = NeuronConfig.model_validate({"threshold": 0.3, **neuron})
        return build(NetworkConfig(architecture=architecture, time_steps=3), config, ImageShape(3, 16), 10)


@pytest.fixture
def images() -> Images:
    with torch.random.fork_rng([]):
        torch.manual_seed(2)
        return Images(torch.randint(0, 256, (6, 3, 16, 16), dtype=torch.uint8), torch.arange(6), torch.arange(6))


def potentials(layer: LIF, current: Tensor) -> list[Tensor]:
    """Return a layer's potentials [B, ...] after each step, for currents [T, B, ...]."""
    after, found = torch.zeros_like(current[0]), []
    for step in current:
        before = layer.decay * after + step
        spikes = (before >= layer.threshold).to(before.dtype)
        after = before * (1 - spikes) if layer.reset == "hard" else before - layer.threshold * spikes
        found.append(after)
    return found


def slow_membrane_updates(student: Network, pixels: Tensor) -> float:
    """Count the first step's potentials, and later those that differ from the step before."""
    updates = 0

    def count(layer: LIF, inputs: tuple[Any, ...], keywords: dict[str, bool]) -> None:
        nonlocal updates
        constant = bool(keywords.get("constant")) or inputs[1:] == (True,)
        current = inputs[0].clone()
        steps = current.expand(3, *current.shape) if constant else current.unflatten(0, (3, -1))
        found = potentials(layer, steps)
        updates += found[0].numel() + sum(int((one != other).sum()) for one, other in itertools.pairwise(found))

    layers = [module for module in student.modules() if isinstance(module, LIF)]
    hooks = [layer.register_forward_pre_hook(count, with_kwargs=True) for layer in layers]
    student.eval()
    with torch.no_grad():
        student(normalise(pixels, MEAN, STD))
    for hook in hooks:
        hook.remove()
    return updates / len(pixels)


@pytest.mark.parametrize("reset", ["hard", "soft"])
@pytest.mark.parametrize("architecture", ["resnet8", "vgg8"])
def test_membrane_updates_are_the_potentials_that_a_step_has_changed(
    images: Images, architecture: str, reset: str
) -> None:
    student = network(architecture, reset=reset)
    expected = slow_membrane_updates(student, images.pixels)
    student.train()
    found = neurobench(student, images, MEAN, STD, batch_size=4)
    assert found["ops/membrane_updates"] == expected
    assert found == neurobench(student, images, MEAN, STD)
    assert student.training


@pytest.mark.parametrize(("reset", "mechanism"), [("hard", "zero"), ("soft", "subtract")])
def test_membrane_updates_are_those_of_the_package(reset: str, mechanism: str) -> None:
    """On snntorch's neurons, of which alone it knows the potentials; a third of the currents is zero."""
    snntorch = pytest.importorskip("snntorch")
    pytest.importorskip("neurobench", reason="neurobench is not installed: make install-test")
    from neurobench.metrics.workload import MembraneUpdates
    from neurobench.models import SNNTorchModel

    steps, batch, inputs = 5, 4, 30
    with torch.random.fork_rng([]):
        torch.manual_seed(3)
        currents = torch.randn(steps, batch, inputs) * (torch.rand(steps, batch, inputs) > 0.3)
        currents[:, :, :5] = 0  # potentials that stay at rest
    neurons = snntorch.Leaky(
        beta=0.5, threshold=0.7, reset_mechanism=mechanism, reset_delay=False, init_hidden=True, output=True
    )
    identity = nn.Linear(inputs, inputs, bias=False)
    identity.weight.data = torch.eye(inputs)
    model = SNNTorchModel(nn.Sequential(identity, neurons))
    model.register_hooks()
    data = currents.transpose(0, 1)
    with torch.no_grad():
        expected = MembraneUpdates()(model, model(data), (data, None))
    model.cleanup_hooks()
    layer = LIF(steps, 0.7, 0.5, reset)
    flat = currents.flatten(0, 1)
    updates = membrane_updates(layer, flat, layer(flat.clone()))
    assert updates / batch == expected < steps * inputs


def test_activation_sparsity_is_of_all_neurons_and_steps(images: Images) -> None:
    student, outputs = network(), []
    hooks = [
        layer.register_forward_hook(lambda _layer, _inputs, output: outputs.append(output.clone()))
        for layer in student.spiking_layers().values()
    ]
    with torch.no_grad():
        student.eval()(normalise(images.pixels, MEAN, STD))
    for hook in hooks:
        hook.remove()
    found = neurobench(student, images, MEAN, STD)
    zeros = sum(int((output == 0).sum()) for output in outputs)
    assert found["spikes/activation_sparsity"] == pytest.approx(zeros / sum(output.numel() for output in outputs))


def test_footprint_and_connection_sparsity_of_weights(images: Images) -> None:
    layer = nn.Linear(4, 3)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.0, 1.0, 0.0, 2.0]] * 3))
    model = nn.Sequential(layer, nn.BatchNorm1d(3))
    assert connection_sparsity(model) == 0.5
    assert footprint(model) == 4 * (12 + 3 + 4 * 3) + 8, "with the normalisation's count of batches, an integer"
    found = neurobench(network(kind="relu"), images, MEAN, STD)
    assert sorted(found) == ["model/connection_sparsity", "model/footprint"], "nothing spikes"
