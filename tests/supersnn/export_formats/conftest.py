from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from supersnn.config import NetworkConfig, NeuronConfig
from supersnn.export_formats.agreement import Run
from supersnn.export_formats.graph import (
    INPUT,
    Affine,
    AveragePool,
    Convolution,
    Flatten,
    Graph,
    Layer,
    Neurons,
    Rectifier,
    SumPool,
)
from supersnn.networks.base import ImageShape, LayerFactory, Network
from supersnn.networks.build import build
from supersnn.networks.vgg import vgg

SHAPE = ImageShape(3, 16)


def _made(architecture: str = "resnet8", steps: int = 2, stem_stride: int = 2, **neuron: object) -> Network:
    """Return a network with the norms of a trained one: statistics, and weights of both signs."""
    generator = torch.Generator().manual_seed(7)
    torch.manual_seed(3)
    student = NetworkConfig(architecture=architecture, time_steps=steps, stem_stride=stem_stride)
    network = build(student, NeuronConfig.model_validate({"threshold": 0.6, "decay": 0.37, **neuron}), SHAPE, 5)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for values, low, high in (
                (module.weight.data, -0.5, 1.5),
                (module.bias.data, -0.3, 0.5),
                (module.running_mean, -0.2, 0.2),
                (module.running_var, 0.3, 1.5),
            ):
                assert values is not None
                values.uniform_(low, high, generator=generator)
    return network.eval()


@pytest.fixture
def made() -> Callable[..., Network]:
    return _made


@pytest.fixture
def odd() -> tuple[Network, Tensor, ImageShape]:
    """A VGG network, images and their shape; maps have sides of 14, 7, 3 and 1, so that two poolings leave out rows."""
    with torch.random.fork_rng([]):
        torch.manual_seed(3)
        shape = ImageShape(3, 14)
        config = NetworkConfig(architecture="vgg8", time_steps=3)
        network = vgg(LayerFactory(config, NeuronConfig(threshold=0.3, decay=0.37)), shape, 5, [[8], [8], [8], [8]])
        with torch.no_grad():
            for _ in range(5):  # statistics of the norms
                network(torch.randn(16, 3, 14, 14))
        return network.eval(), torch.randn(24, 3, 14, 14), shape


@pytest.fixture
def images() -> Tensor:
    """Normalised images [24, 3, 16, 16]."""
    return torch.randn(24, *(SHAPE.channels, SHAPE.side, SHAPE.side), generator=torch.Generator().manual_seed(5))


def _layer(layer: Layer, x: Tensor, potentials: dict[str, Tensor], name: str) -> Tensor:
    match layer:
        case Convolution():
            options = layer.stride, layer.padding, layer.dilation, layer.groups
            return functional.conv2d(x, layer.weight, layer.bias, *options)
        case Affine():
            return x @ layer.weight.T + layer.bias
        case AveragePool():
            return functional.avg_pool2d(x, layer.window, layer.stride)
        case SumPool():
            return functional.avg_pool2d(x, layer.window, layer.stride, divisor_override=1)
        case Flatten():
            return x.flatten(1)
        case Rectifier():
            return x.clamp(min=0)
        case Neurons():
            x = layer.gain * x
            u = layer.decay * potentials[name] + x if name in potentials else x
            fired = (u >= layer.threshold).float()
            potentials[name] = u * (1 - fired) if layer.reset == "hard" else u - layer.threshold * fired
            return fired


@pytest.fixture
def run_slowly() -> Callable[[Graph, Tensor], Run]:
    """Run a graph layer by layer and step by step: the reference for every format."""

    def run(graph: Graph, images: Tensor) -> Run:
        potentials: dict[str, Tensor] = {}
        steps: list[Mapping[str, Tensor]] = []
        for _ in range(graph.steps):
            values = {INPUT: images}
            for name, node in graph.nodes.items():
                total = torch.stack([values[source] for source in node.sources]).sum(0)
                values[name] = _layer(node.layer, total, potentials, name)
                assert values[name].shape[1:] == node.shape
            steps.append(values)
        spiking = [name for name, node in graph.nodes.items() if isinstance(node.layer, Neurons)]
        spikes = {name: torch.cat([values[name] for values in steps]) for name in spiking}
        return Run(torch.stack([values[list(graph.nodes)[-1]] for values in steps]).mean(0), spikes)

    return run
