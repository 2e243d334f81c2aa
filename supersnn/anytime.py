"""A student's accuracy and cost after each time step, and of an early exit by confidence.

A step never changes what an earlier one computed, so one run of T steps is also a run of every smaller number of steps:
the prediction after step t is that of the mean of the logits so far. With an exit at a confidence c an image runs until
the largest softmax probability of that mean reaches c, at most T steps. Costs count what ran until then, as
`supersnn.operations` does.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from supersnn.augment import normalise
from supersnn.data import Images
from supersnn.networks.base import ImageShape, Network
from supersnn.operations import AC_PJ, MAC_PJ, dense_operations, fan_out, weighted_layers

CONFIDENCES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)


class Point(NamedTuple):
    """One way to stop, and what it is worth: means over the images.

    Attributes:
        rule: ``steps`` where every image runs so many steps, ``confidence`` for an early exit.
        at: the number of steps, or the confidence.
        steps: mean number of steps.
        accuracy: a fraction.
        synaptic_ops, energy_nj: of an image.
    """

    rule: Literal["steps", "confidence"]
    at: float
    steps: float
    accuracy: float
    synaptic_ops: float
    energy_nj: float


class _Costs:
    """Counts the synaptic operations of each image and step."""

    def __init__(self, network: Network, first: str) -> None:
        self._steps = network.steps
        self.of_batch: Tensor | float = 0.0
        layers = [(name, layer) for name, layer in weighted_layers(network) if name != first]
        self._hooks = [layer.register_forward_pre_hook(self._count) for _, layer in layers]

    def _count(self, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        (values,) = inputs
        taps = fan_out(layer, values.shape).to(values.device)
        ones = (values != 0).flatten(2).sum(1) if values.dim() == 4 else (values != 0).sum(1, keepdim=True)
        operations = (ones.double() * taps.flatten()).sum(1)
        self.of_batch = self.of_batch + operations.unflatten(0, (self._steps, -1))

    def remove(self) -> None:
        for hook in self._hooks:
            hook.remove()


def anytime(
    network: Network,
    images: Images,
    shape: ImageShape,
    mean: Sequence[float],
    std: Sequence[float],
    confidences: Sequence[float] = CONFIDENCES,
    batch_size: int = 256,
) -> list[Point]:
    """Return a point for each number of steps from 1 to T, then one for each confidence.

    Args:
        network: spiking; its mode is restored. For one without spiking layers nothing is returned.
        images: to measure on.
        shape: of the images.
        mean: of each channel, as in training.
        std: of each channel.
        confidences: from 0 to 1.
        batch_size: changes the result by rounding only.
    """
    if not network.spiking_layers():
        return []
    dense = dense_operations(network, shape)
    first = next(iter(dense))
    device, training = next(network.parameters()).device, network.training
    costs = _Costs(network, first)
    logits, operations = [], []
    network.eval()
    try:
        with torch.no_grad():
            for pixels in images.pixels.split(batch_size):
                costs.of_batch = 0.0
                logits.append(network(normalise(pixels.to(device), mean, std)).logits.float())
                operations.append(torch.as_tensor(costs.of_batch))
    finally:
        costs.remove()
        network.train(training)
    return _points(torch.cat(logits, 1), torch.cat(operations, 1), images.labels.to(device), dense[first], confidences)


def _points(
    logits: Tensor, operations: Tensor, labels: Tensor, mac: float, confidences: Sequence[float]
) -> list[Point]:
    """Return the points for logits [T, N, K] and operations [T, N] of each step."""
    steps = len(logits)
    so_far = logits.cumsum(0) / torch.arange(1, steps + 1, device=logits.device)[:, None, None]
    right, confident = so_far.argmax(2) == labels, so_far.softmax(2).amax(2)
    spent = operations.cumsum(0)

    def point(rule: Literal["steps", "confidence"], at: float, ends: Tensor) -> Point:
        """Return the point at which each image ends after the step `ends`, counted from 0."""
        chosen = ends.unsqueeze(0)
        synaptic = float(spent.gather(0, chosen).mean())
        accuracy = float(right.gather(0, chosen).double().mean())
        energy = (mac * MAC_PJ + synaptic * AC_PJ) / 1000
        return Point(rule, at, float(ends.double().mean()) + 1, accuracy, synaptic, energy)

    found = [point("steps", step + 1, torch.full_like(labels, step)) for step in range(steps)]
    for confidence in confidences:
        reached = confident >= confidence
        reached[-1] = True
        found.append(point("confidence", confidence, reached.long().argmax(0)))
    return found


def rows(points: Sequence[Point]) -> list[dict[str, Any]]:
    """Return points as plain rows, as `result.json` and `verified.json` have them under ``anytime``."""
    return [point._asdict() for point in points]
