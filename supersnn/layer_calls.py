"""How the calls of a network's layers go over its time steps, and sums of their values by step and image.

A network of this project sees all steps at once, with time folded into the batch; a plain module may call its layers
step by step (`networks.adapter`). Which of these a layer does is found from one run of blank images.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from supersnn.networks.base import Network, evaluating


@dataclass(frozen=True)
class Calls:
    """The calls of a layer in one run of a batch.

    kind: ``whole`` if a call has all steps, [T·B, ...] or [T, B, ...]; ``stepwise`` if the calls of a step, [B, ...],
        precede those of the next one; ``once`` for one call [B, ...] before the first step, which serves all of them.
    each: calls at a step, if they are stepwise.
    """

    kind: Literal["whole", "stepwise", "once"]
    each: int = 1


def calls_of(network: Network, layers: Mapping[str, nn.Module], image: Sequence[int]) -> dict[str, Calls | None]:
    """Return how layers are called; one that does not run is left out, and where the shapes do not tell it is None.

    Args:
        network: its mode and hooks are restored.
        layers: of the network, by name.
        image: the shape of an image [C, H, W].
    """
    batch = network.steps + 1  # that cannot be taken for the time steps
    shapes: dict[str, list[torch.Size]] = {}

    def seeing(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda _layer, inputs: shapes.setdefault(name, []).append(inputs[0].shape)

    hooks = [layer.register_forward_pre_hook(seeing(name)) for name, layer in layers.items()]
    with evaluating(network, hooks):
        network(torch.zeros(batch, *image, device=next(network.parameters()).device))
    every_step = getattr(network, "time_loop", None) == "outside"
    return {name: _calls(found, network.steps, batch, every_step) for name, found in shapes.items()}


def _calls(shapes: Sequence[torch.Size], steps: int, batch: int, every_step: bool) -> Calls | None:
    """Return how a layer is called from the shapes of its inputs; `every_step` if the network itself is."""
    if all(shape[:1] == (steps * batch,) or shape[:2] == (steps, batch) for shape in shapes):
        return Calls("whole")
    if any(shape[:1] != (batch,) for shape in shapes):
        return None
    if len(shapes) == steps or (every_step and len(shapes) % steps == 0):
        return Calls("stepwise", len(shapes) // steps)
    return Calls("once") if len(shapes) == 1 and not every_step else None


def known(calls: Mapping[str, Calls | None]) -> dict[str, Calls] | None:
    """Return how layers are called, None if that is not known of one of them."""
    found = {name: one for name, one in calls.items() if one is not None}
    return found if len(found) == len(calls) else None


class StepSums:
    """Sums of layers' values over one batch, by time step and image.

    Attributes:
        sums: float64 [T, B].

    Args:
        steps: T.
        batch: B.
        calls: how each layer is called (`calls_of`).
        device: of the values.
    """

    def __init__(self, steps: int, batch: int, calls: Mapping[str, Calls], device: torch.device) -> None:
        self.sums = torch.zeros(steps, batch, dtype=torch.float64, device=device)
        self._calls = calls
        self._done = Counter[str]()

    def add(self, name: str, values: Tensor) -> None:
        """Add the values of a layer's next call, [T·B, ...], [T, B, ...] or [B, ...]."""
        calls, (steps, batch) = self._calls[name], self.sums.shape
        if calls.kind == "whole":
            self.sums += values.reshape(steps, batch, -1).sum(2)
        else:
            self.sums[self._done[name] // calls.each] += values.reshape(batch, -1).sum(1)
        self._done[name] += 1
