"""A convolutional network in multi-step mode, and a single layer of neurons in single-step mode."""

from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import nn


def convolutional(channels: int, side: int, classes: int, width: int = 16) -> nn.Module:
    """Return two convolutions and two linear layers, each followed by integrate-and-fire neurons."""
    modules: list[nn.Module] = []
    for inputs in (channels, width):
        modules += [layer.Conv2d(inputs, width, 3, padding=1, bias=False), layer.BatchNorm2d(width), _neurons()]
        modules.append(layer.MaxPool2d(2, 2))
    modules += [layer.Flatten(), layer.Linear(width * (side // 4) ** 2, 4 * width, bias=False), _neurons()]
    network = nn.Sequential(*modules, layer.Linear(4 * width, classes, bias=False), _neurons())
    functional.set_step_mode(network, "m")
    return network


def single(channels: int, side: int, classes: int, tau: float = 2.0) -> nn.Module:
    """Return a linear layer and leaky neurons, which are called at every step."""
    neurons = neuron.LIFNode(tau=tau, decay_input=False, surrogate_function=surrogate.ATan())
    return nn.Sequential(layer.Flatten(), layer.Linear(channels * side * side, classes, bias=False), neurons)


def _neurons() -> nn.Module:
    return neuron.IFNode(surrogate_function=surrogate.ATan())
