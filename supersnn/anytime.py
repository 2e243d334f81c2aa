"""A student's accuracy and cost after each time step, and of an early exit by confidence.

A step never changes what an earlier one computed, so one run of T steps is also a run of every smaller number of steps:
the prediction after step t is that of the mean of the logits so far. With an exit at a confidence c an image runs until
the largest softmax probability of that mean reaches c, at most T steps. Costs count what ran until then, as
`supersnn.operations` does: a first layer that has the image at every step multiplies at every step.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from supersnn.augment import normalise
from supersnn.data import Images
from supersnn.layer_calls import Calls, StepSums, calls_of, known
from supersnn.networks.base import ImageShape, Network, evaluating
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
    """Counts the synaptic operations of the layers by image and step."""

    def __init__(self, layers: Mapping[str, nn.Conv2d | nn.Linear], steps: int, calls: Mapping[str, Calls]) -> None:
        self._steps, self._calls = steps, calls
        self._taps: dict[str, Tensor] = {}
        self.hooks = [layer.register_forward_pre_hook(self._counting(name)) for name, layer in layers.items()]

    def start(self, batch: int, device: torch.device) -> None:
        """Expect a batch of so many images."""
        self._sums = StepSums(self._steps, batch, self._calls, device)

    @property
    def of_batch(self) -> Tensor:
        """What was counted since the start, float64 [T, B]."""
        return self._sums.sums

    def _counting(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def count(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            assert isinstance(layer, nn.Conv2d | nn.Linear)
            if name not in self._taps:
                self._taps[name] = fan_out(layer, inputs[0].shape)
            self._sums.add(name, _operations(inputs[0], self._taps[name]))

        return count


def _operations(values: Tensor, taps: Tensor) -> Tensor:
    """Return the operations, float64 [...], of a layer's inputs [..., C, H, W] or [..., F] with their fan-outs."""
    inputs = values.reshape(-1, taps.numel())
    found = [(part != 0).double() @ taps.flatten() for part in inputs.split(64)]  # doubles of all would take memory
    return torch.cat(found).reshape(values.shape[: values.dim() - taps.dim()])


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
        network: spiking; its mode is restored. Nothing is returned for one without spiking layers, nor for a plain
            module with a layer whose calls cannot be assigned to time steps (`supersnn.layer_calls`).
        images: to measure on.
        shape: of the images.
        mean: of each channel, as in training.
        std: of each channel.
        confidences: from 0 to 1.
        batch_size: changes the result by rounding only.
    """
    if not network.spiking_layers():
        return []
    calls = known(calls_of(network, dict(weighted_layers(network)), (shape.channels, *[shape.side] * 2)))
    if calls is None:
        return []
    dense = dense_operations(network, shape)
    first = next(iter(dense))
    device = next(network.parameters()).device
    later = {name: layer for name, layer in weighted_layers(network) if name in calls and name != first}
    costs = _Costs(later, network.steps, calls)
    logits, operations = [], []
    with evaluating(network, costs.hooks):
        for pixels in images.pixels.split(batch_size):
            costs.start(len(pixels), device)
            logits.append(network(normalise(pixels.to(device), mean, std)).logits.float())
            operations.append(costs.of_batch)
    macs = torch.full((network.steps,), float(dense[first]), dtype=torch.float64, device=device)
    if calls[first].kind != "once":
        macs *= torch.arange(1, network.steps + 1, device=device) / network.steps
    return _points(torch.cat(logits, 1), torch.cat(operations, 1), images.labels.to(device), macs, confidences)


def _points(
    logits: Tensor, operations: Tensor, labels: Tensor, macs: Tensor, confidences: Sequence[float]
) -> list[Point]:
    """Return the points for logits [T, N, K] and operations [T, N] of each step, and the image's [T] until each."""
    steps = len(logits)
    so_far = logits.cumsum(0) / torch.arange(1, steps + 1, device=logits.device)[:, None, None]
    right, confident = so_far.argmax(2) == labels, so_far.softmax(2).amax(2)
    spent = operations.cumsum(0)

    def point(rule: Literal["steps", "confidence"], at: float, ends: Tensor) -> Point:
        """Return the point at which each image ends after the step `ends`, counted from 0."""
        chosen = ends.unsqueeze(0)
        synaptic = float(spent.gather(0, chosen).mean())
        accuracy = float(right.gather(0, chosen).double().mean())
        energy = (float(macs[ends].mean()) * MAC_PJ + synaptic * AC_PJ) / 1000
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
