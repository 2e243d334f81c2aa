"""Evaluation of a network: accuracy, loss, firing rates, and the inputs of every layer."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from supersnn.augment import Normaliser
from supersnn.cuda_graph import captured
from supersnn.data import Images
from supersnn.networks.base import ImageShape, Network, evaluating
from supersnn.neurons import SpikeCounter, counts_itself
from supersnn.numerics import numerics
from supersnn.operations import LayerInputs, dense_operations, reach, synapses, weighted_layers


@dataclass(frozen=True)
class Evaluation:
    """Evaluation of a network on a set of images; accuracies and rates are fractions.

    per_class: accuracies; None for a class without images.
    rate: mean firing rate, the share of neurons and time steps with a spike, over all spiking layers; None without
        spiking layers.
    rates: the same by spiking layer.
    inputs: of the convolutions and linear layers by name.
    right: whether each image is classified correctly, in their order.
    """

    images: int
    accuracy: float
    top5: float
    loss: float
    per_class: tuple[float | None, ...]
    rate: float | None
    rates: dict[str, float]
    inputs: dict[str, LayerInputs]
    right: tuple[bool, ...] = field(default=(), repr=False)


class _InputTally:
    """Count of the non-zero inputs of one layer by channel and position, kept on the device at fixed addresses."""

    def __init__(self, layer: nn.Conv2d | nn.Linear, device: torch.device) -> None:
        self._layer, self._device = layer, device
        self._nonzero: Tensor | None = None
        self._graded: Tensor | None = None
        self._reach: Tensor | None = None
        self.values = 0

    def add(self, inputs: Tensor) -> None:
        signs = inputs.sign()
        graded = (signs != inputs).any()
        by_place = _over_images(signs.abs_().flatten(0, -4 if isinstance(self._layer, nn.Conv2d) else -2))
        if self._nonzero is None or self._graded is None:
            self._nonzero, self._graded = torch.zeros_like(by_place, dtype=torch.float64), torch.zeros_like(graded)
        self._nonzero += by_place
        self._graded |= graded
        self.values += inputs.numel()

    def clear(self) -> None:
        """Forget what was counted."""
        for counted in (self._nonzero, self._graded):
            if counted is not None:
                counted.zero_()

    def counted(self) -> Tensor:
        """Return what was counted, on the device, float64 [3]: whether inputs are graded, non-zero ones, operations."""
        if self._nonzero is None or self._graded is None:
            return torch.zeros(3, dtype=torch.float64, device=self._device)
        if self._reach is None:
            self._reach = reach(self._layer, self._nonzero.shape).flatten(1)
        weights = synapses(self._layer)
        operations = (self._nonzero.reshape(len(weights), -1) @ self._reach.T * weights).sum()
        return torch.stack([self._graded.double(), self._nonzero.sum(), operations])

    def inputs(self, counted: Tensor, images: int, each: float) -> LayerInputs:
        """Return what was counted, copied to the host, over so many images with so many values each."""
        graded, nonzero, operations = counted.tolist()
        if self._nonzero is None:
            return LayerInputs(0.0, 0.0, True)
        return LayerInputs(nonzero / (each * images), operations / images, not graded)


def _over_images(values: Tensor) -> Tensor:
    """Return the sum over the first dimension, in the order of memory, which takes a third of the time."""
    if values.dim() == 4 and values.is_contiguous(memory_format=torch.channels_last):
        return values.movedim(1, -1).sum(0).movedim(-1, 0)
    return values.sum(0)


class Evaluator:
    """Evaluates one network, again and again; see `evaluate`.

    With `graph`, the work on a full batch is captured in a CUDA graph at the second evaluation.
    """

    def __init__(
        self,
        network: Network,
        mean: Sequence[float],
        std: Sequence[float],
        batch_size: int = 256,
        graph: bool = False,
    ) -> None:
        self._network, self._batch_size, self._graph_wanted = network, batch_size, graph
        self._device = next(network.parameters()).device
        self._normalise = Normaliser(mean, std, self._device)
        self._spikes = {name: SpikeCounter(self._device) for name in network.spiking_layers()}
        self._inputs = {name: _InputTally(layer, self._device) for name, layer in weighted_layers(network)}
        self._each = dict.fromkeys((*self._spikes, *self._inputs), 0.0)
        self._dense: dict[ImageShape, dict[str, int]] = {}
        self._evaluations = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._pixels: Tensor | None = None
        self._scores: Tensor | None = None

    def evaluate(self, images: Images) -> Evaluation:
        """Return the evaluation on some images; the network's mode and hooks are restored."""
        for counter in self._spikes.values():
            counter.clear()
        for tally in self._inputs.values():
            tally.clear()
        try:
            with evaluating(self._network), numerics(self._device), self._counting():
                scores = torch.cat([self._scored(pixels) for pixels in images.pixels.split(self._batch_size)])
                return self._evaluation(scores, images.labels.to(self._device))
        finally:
            self._evaluations += 1

    def dense_operations(self, shape: ImageShape) -> dict[str, int]:
        """Return `operations.dense_operations` of the network, which are found once."""
        if shape not in self._dense:
            self._dense[shape] = dense_operations(self._network, shape)
        return self._dense[shape]

    @contextmanager
    def _counting(self) -> Iterator[None]:
        """Count the spikes of the spiking layers and the non-zero inputs of the weighted layers, during the block."""

        def before(tally: _InputTally) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
            return lambda _layer, inputs: tally.add(inputs[0])

        def after(counter: SpikeCounter) -> Callable[[nn.Module, Any, Any], None]:
            return lambda _layer, _inputs, output: counter.add(output if isinstance(output, Tensor) else output[0])

        layers = self._network.spiking_layers()
        counting = {name: layer for name, layer in layers.items() if counts_itself(layer)}
        hooks = [
            self._network.get_submodule(name).register_forward_pre_hook(before(tally))
            for name, tally in self._inputs.items()
        ]
        hooks += [
            layer.register_forward_hook(after(self._spikes[name]))
            for name, layer in layers.items()
            if name not in counting
        ]
        try:
            for name, layer in counting.items():
                layer.counter = self._spikes[name]
            yield
        finally:
            for hook in hooks:
                hook.remove()
            for layer in counting.values():
                layer.counter = None

    def _scored(self, pixels: Tensor) -> Tensor:
        """Return the logits' mean over time [B, K] for pixels uint8 [B, C, H, W]."""
        if self._graph_wanted and self._evaluations > 0 and len(pixels) == self._batch_size:
            self._capture(pixels)
        if self._graph is None or self._pixels is None or self._scores is None or len(pixels) != self._batch_size:
            return self._forward(pixels.to(self._device))
        self._pixels.copy_(pixels)
        self._graph.replay()
        return self._scores.clone()

    def _capture(self, pixels: Tensor) -> None:
        """Capture the work on a full batch; where that is not possible, go on without, and say so."""
        self._graph_wanted = False
        held = self._pixels = torch.empty_like(pixels, device=self._device).copy_(pixels)

        def work() -> None:
            self._scores = self._forward(held)

        self._graph = captured(work, "evaluations")

    def _forward(self, pixels: Tensor) -> Tensor:
        tallies: dict[str, SpikeCounter | _InputTally] = {**self._spikes, **self._inputs}
        for tally in tallies.values():
            tally.values = 0
        scores = self._network(self._normalise(pixels)).logits.float().mean(0)
        self._each = {name: tally.values / len(pixels) for name, tally in tallies.items()}
        return scores

    def _evaluation(self, scores: Tensor, labels: Tensor) -> Evaluation:
        """Return the evaluation from the logits' mean over time [N, K] and what was counted."""
        images, classes = len(labels), scores.shape[1]
        right = scores.argmax(1) == labels
        among_five = (scores.topk(min(5, classes)).indices == labels[:, None]).any(1)
        loss = functional.cross_entropy(scores, labels)
        tallies = {name: tally.counted() for name, tally in self._inputs.items()}
        spikes = [counter.spikes.view(1) for counter in self._spikes.values()]
        found = _on_host([labels, right, among_five.sum().view(1), loss.view(1), *spikes, *tallies.values()])
        labels, right, among, loss = found[0].long(), found[1].bool(), found[2], found[3]
        fired = {name: float(count) for name, count in zip(self._spikes, found[4:], strict=False)}
        counted = dict(zip(self._inputs, found[4 + len(fired) :], strict=True))
        sizes = torch.bincount(labels, minlength=classes).tolist()
        hits = torch.bincount(labels[right], minlength=classes).tolist()
        steps = {name: round(self._each[name] * images) for name in fired}
        everything = sum(steps.values())
        return Evaluation(
            images=images,
            accuracy=sum(hits) / images,
            top5=int(among) / images,
            loss=float(loss),
            per_class=tuple(hit / n if n else None for hit, n in zip(hits, sizes, strict=True)),
            rate=sum(fired.values()) / everything if everything else None,
            rates={name: fired[name] / steps[name] if steps[name] else 0.0 for name in fired},
            inputs={
                name: tally.inputs(counted[name], images, self._each[name]) for name, tally in self._inputs.items()
            },
            right=tuple(right.tolist()),
        )


def _on_host(values: Sequence[Tensor]) -> list[Tensor]:
    """Return vectors as float64 on the host, which waits for the device once; integers below 2⁵³ stay exact."""
    together = torch.cat([one.double() for one in values]).cpu()
    return list(together.split([len(one) for one in values]))


def evaluate(
    network: Network, images: Images, mean: Sequence[float], std: Sequence[float], batch_size: int = 256
) -> Evaluation:
    """Evaluate the network on images, in evaluation mode and in full single precision, also on GPUs.

    Args:
        network: its mode and hooks are restored.
        images: pixels uint8 [N, C, H, W] and labels int64 [N]; N of at least 1.
        mean: of each channel, as in training.
        std: of each channel.
        batch_size: changes the result by rounding errors only.
    """
    return Evaluator(network, mean, std, batch_size).evaluate(images)
