"""Networks of your own, by import path: a `Network`, or any module whose outputs an adapter brings into its form.

The constructor is called with those of these names that it has parameters for: `layers` (the `LayerFactory`), `shape`
(`ImageShape`), `channels`, `side`, `classes` (or `num_classes`), `steps` (or `time_steps`), `neuron` (`NeuronConfig`);
and with its own `arguments`. What it returns is tried once, on blank images, so that a wrong shape is found before
anything is trained.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from supersnn import parts
from supersnn.errors import UserError
from supersnn.networks.adapter import AdaptedNetwork
from supersnn.networks.base import ImageShape, LayerFactory, Network, Output, evaluating

KEY = "arguments"


def own_network(
    path: str, layers: LayerFactory, shape: ImageShape, classes: int, arguments: Mapping[str, Any], key: str = KEY
) -> Network:
    """Return the network that an import path names, on the CPU.

    Args:
        path: of its class, or of a function that returns it.
        layers: creates its layers.
        shape: of its images.
        classes: their number.
        arguments: its own.
        key: of the arguments in the configuration, for errors.

    Raises:
        UserError: it cannot be imported or constructed, or its outputs are not those of a network.
    """
    with torch.device("cpu"):
        module = parts.call(path, parts.function(path), offered(layers, shape, classes), arguments, key)
        if not isinstance(module, nn.Module):
            raise UserError(f"{path!r}: expected a torch module, found {type(module).__name__}")
        with torch.random.fork_rng([]), parts.raised_by(path):
            network = module if isinstance(module, Network) else AdaptedNetwork(path, module, layers.steps, shape)
            _check(path, network, layers, shape, classes)
    return network


def offered(layers: LayerFactory, shape: ImageShape, classes: int) -> dict[str, Any]:
    """Return what a constructor may ask for, by name."""
    return {
        "layers": layers,
        "shape": shape,
        "channels": shape.channels,
        "side": shape.side,
        "classes": classes,
        "num_classes": classes,
        "steps": layers.steps,
        "time_steps": layers.steps,
        "neuron": layers.neuron,
    }


def family_of(path: str) -> str:
    """Return the family that a network of your own declares as its attribute `family`, else its import path.

    Raises:
        UserError: it cannot be imported, or its family is no text.
    """
    declared = getattr(parts.load(path), "family", path)
    if not isinstance(declared, str) or not declared:
        raise UserError(f"{path!r}: family: expected a text, found {declared!r}")
    return declared


def _check(path: str, network: Network, layers: LayerFactory, shape: ImageShape, classes: int) -> None:
    """Run a network once, and compare its outputs with the documented shapes."""
    if not any(True for _ in network.parameters()):
        raise UserError(f"{path!r}: expected a network with parameters, found none")
    steps, batch = layers.steps, layers.steps + 1  # a batch that cannot be taken for the time steps
    for name, expected in (("steps", steps), ("classes", classes)):
        if not isinstance(network, AdaptedNetwork) and getattr(network, name, None) != expected:
            raise UserError(f"{path!r}: {name}: expected {expected}, found {getattr(network, name, None)}")
    with evaluating(network):
        output = network(torch.zeros(batch, shape.channels, shape.side, shape.side))
    if not isinstance(output, tuple) or len(output) != 2:
        raise UserError(f"{path!r}: expected an Output (logits, features), found {type(output).__name__}")
    _check_output(path, Output(*output), steps, batch, classes, network.channels)
    if layers.neuron.kind != "relu" and not network.spiking_layers():
        raise UserError(
            f"{path!r}: no spiking layers are found in it; expected LIF layers, modules with the attribute spiking = "
            "True, or a method spiking_layers(); an artificial network has neuron.kind: relu"
        )


def _check_output(path: str, output: Output, steps: int, batch: int, classes: int, channels: int) -> None:
    for name, value, form, expected in (
        ("logits", output.logits, "[T, B, K]", (steps, batch, classes)),
        ("features", output.features, "[T, B, C, H, W]", (steps, batch, channels, None, None)),
    ):
        found = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        right = isinstance(value, Tensor) and len(found) == len(expected)
        if not right or any(e not in (None, f) for e, f in zip(expected, found, strict=True)):
            wanted = ", ".join("·" if e is None else str(e) for e in expected)
            shown = list(found) if isinstance(found, tuple) else found
            hint = "; time comes first" if isinstance(found, tuple) and found[:2] == (batch, steps) else ""
            raise UserError(f"{path!r}: {name}: expected {form} = [{wanted}] for {batch} images, found {shown}{hint}")
