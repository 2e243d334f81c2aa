"""Checks of networks and neurons: shapes, memory layout, determinism, gradients, and what the counters find."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from supersnn.config import NetworkConfig, NeuronConfig
from supersnn.errors import UserError
from supersnn.evaluation import evaluate
from supersnn.networks.base import ImageShape, LayerFactory, Network
from supersnn.networks.build import build, family
from supersnn.neurons import own_neuron
from supersnn.operations import count
from supersnn.trying import random_data

FORMS = ((ImageShape(1, 8), 4, 2), (ImageShape(3, 16), 10, 3))
"""Image shapes, numbers of classes and time steps that a network must work for."""
_CLOSE = 1e-4


def student(path: str, arguments: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Check a spiking network."""
    yield from _network(path, arguments, NeuronConfig())


def teacher(path: str, arguments: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Check an artificial network."""
    yield from _network(path, arguments, NeuronConfig(kind="relu"))


def _network(path: str, arguments: Mapping[str, Any], neuron: NeuronConfig) -> Iterator[tuple[str, str]]:
    yield "family", family(path)
    for shape, classes, steps in FORMS:
        network = _built(path, arguments, neuron, shape, classes, steps)
        yield "built for any shape, classes and time steps", f"{tuple(shape)}, {classes} classes, {network.steps} steps"
    shape, classes, steps = FORMS[0]
    network, again = (_built(path, arguments, neuron, shape, classes, steps).eval() for _ in range(2))
    images = torch.randn(6, shape.channels, shape.side, shape.side, generator=torch.Generator().manual_seed(1))
    logits = _logits(network, images)
    _same(path, "the same seed gives other weights", logits, _logits(again, images), 0.0)
    yield "reproducible by its seed", "same logits"
    _same(path, "the same images give other logits when evaluated again", logits, _logits(network, images), 0.0)
    _same(path, "logits depend on the other images of a batch", logits[:, :2], _logits(network, images[:2]), _CLOSE)
    yield "deterministic, an image at a time", "same logits"
    again.load_state_dict(network.state_dict())
    _same(path, "its state dict does not restore it", logits, _logits(again, images), 0.0)
    yield "restored from its state dict", f"{sum(p.numel() for p in network.parameters()):,} parameters"
    _channels_last(path, again, images, logits)
    yield "channels-last", "same logits"
    yield "gradients", _gradients(path, network, images)
    yield "counters", _counted(path, network, shape, classes, neuron)


def _built(
    path: str, arguments: Mapping[str, Any], neuron: NeuronConfig, shape: ImageShape, classes: int, steps: int
) -> Network:
    config = NetworkConfig(architecture=path, arguments=dict(arguments), time_steps=steps)
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return build(config, neuron, shape, classes)


def _logits(network: Network, images: Tensor) -> Tensor:
    with torch.no_grad():
        logits: Tensor = network(images).logits
    return logits


def _same(path: str, fault: str, one: Tensor, other: Tensor, tolerance: float) -> None:
    difference = float((one - other).abs().max())
    if not difference <= tolerance:
        raise UserError(f"{path!r}: {fault} (they differ by {difference:.2g})")


def _channels_last(path: str, network: Network, images: Tensor, logits: Tensor) -> None:
    network.to(memory_format=torch.channels_last)
    try:
        found = _logits(network, images.contiguous(memory_format=torch.channels_last))
    except RuntimeError as error:
        raise UserError(
            f"{path!r}: fails with channels-last memory: {str(error).splitlines()[0]}; use flatten or reshape in place "
            "of view, or set train.channels_last: false"
        ) from error
    _same(path, "logits are other ones with channels-last memory", logits, found, _CLOSE)


def _gradients(path: str, network: Network, images: Tensor) -> str:
    network.train()
    output = network(images)
    generator = torch.Generator().manual_seed(2)
    sum((torch.randn(part.shape, generator=generator) * part).sum() for part in output).backward()
    network.eval()
    missing = [name for name, p in network.named_parameters() if p.requires_grad and p.grad is None]
    if missing:
        raise UserError(f"{path!r}: no gradient reaches {', '.join(missing[:3])}")
    grads = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    broken = [name for name, grad in grads.items() if not bool(grad.isfinite().all())]
    if broken:
        raise UserError(f"{path!r}: the gradient of {broken[0]} is not finite")
    if not any(bool(grad.any()) for grad in grads.values()):
        raise UserError(f"{path!r}: all gradients are zero: its neurons are silent, or have no surrogate derivative")
    return f"{sum(bool(grad.any()) for grad in grads.values())} of {len(grads)} tensors get one on random images"


def _counted(path: str, network: Network, shape: ImageShape, classes: int, neuron: NeuronConfig) -> str:
    data = random_data(shape, classes)
    seen = evaluate(network, data.validation, data.mean, data.std)
    if not seen.inputs:
        raise UserError(f"{path!r}: no convolution or linear layer is found in it, whose operations are counted")
    operations = count(network, shape, seen.inputs)
    if neuron.kind == "relu":
        return f"{operations.mac:,.0f} multiply-accumulates an image"
    if seen.rate is None or not 0 <= seen.rate <= 1:
        raise UserError(f"{path!r}: firing rate: expected a share from 0 to 1, found {seen.rate}")
    layers = len(network.spiking_layers())
    return f"{layers} spiking layers, firing rate {seen.rate:.3g}, {operations.synaptic:,.0f} synaptic operations"


def neuron(path: str, arguments: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Check a layer of neurons."""
    config = NeuronConfig(kind=path, arguments=dict(arguments), threshold=0.5)
    layer = own_neuron(config, 3)
    yield "constructed", type(layer).__name__
    current = torch.randn(3, 4, 5, 2, 2, generator=torch.Generator().manual_seed(0))
    spikes = _spikes(path, layer, current.flatten(0, 1).clone(), False)
    if spikes.shape != (12, 5, 2, 2):
        raise UserError(f"{path!r}: expected spikes [T·B, ...] = [12, 5, 2, 2], found {list(spikes.shape)}")
    if not bool(((spikes == 0) | (spikes == 1)).all()):
        raise UserError(f"{path!r}: expected spikes of 0 and 1, found others")
    yield "spikes [T·B, ...] of 0 and 1", f"firing rate {float(spikes.mean()):.3g}"
    if not torch.equal(_spikes(path, layer, current.flatten(0, 1).clone(), False), spikes):
        raise UserError(f"{path!r}: a second call with the same currents gives other spikes: it keeps a state")
    yield "no state between calls", "same spikes"
    repeated = _spikes(path, layer, current[0].repeat(3, 1, 1, 1), False)
    if not torch.equal(_spikes(path, layer, current[0].clone(), True), repeated):
        raise UserError(f"{path!r}: constant=True: expected the spikes of the same current at each step")
    yield "constant currents", "same spikes as repeated ones"
    asked = current.flatten(0, 1).requires_grad_()
    _spikes(path, layer, asked * 1.0, False).sum().backward()
    if asked.grad is None or not bool(asked.grad.isfinite().all()) or not bool(asked.grad.any()):
        raise UserError(f"{path!r}: no finite gradient reaches its currents: it needs a surrogate derivative")
    yield "gradients", "finite"
    layers = LayerFactory(NetworkConfig(architecture="resnet8"), config)
    yield "in a network", type(layers.activation()).__name__


def _spikes(path: str, layer: nn.Module, current: Tensor, constant: bool) -> Tensor:
    try:
        found = layer(current, constant=True) if constant else layer(current)
    except TypeError as error:
        raise UserError(f"{path!r}: expected forward(current, constant=False): {error}") from error
    if not isinstance(found, Tensor):
        raise UserError(f"{path!r}: expected a tensor of spikes, found {type(found).__name__}")
    return found
