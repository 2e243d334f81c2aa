"""An exponential moving average of a student's weights, which is what is evaluated and exported."""

import copy

import torch
from torch import Tensor

from supersnn.networks.base import Network


def share_of_step(decay: float, step: int) -> float:
    """Return the share 1 - d of the weights after a step, counted from 0, in their average; see `WeightAverage`."""
    count = step + 1
    return 1 - min(decay, count / (count + 9))


class WeightAverage:
    """The average of a network's weights and statistics over the training's steps.

    After step n, with d = min(decay, n / (n + 9)): average ← d · average + (1 - d) · weights, so that the first steps,
    which are far from the end, do not count for long. Integers (the batch norms' counters) are copied.
    """

    def __init__(self, network: Network) -> None:
        self.network = copy.deepcopy(network)
        self.network.requires_grad_(False)

    @torch.no_grad()
    def update(self, network: Network, share: float | Tensor) -> None:
        """Take in the weights after a step with their share of `share_of_step`; a tensor is float32 on their device."""
        own, new = self.network.state_dict(), network.state_dict()
        for name, value in own.items():
            if value.is_floating_point():
                value.lerp_(new[name], share)
            else:
                value.copy_(new[name])
