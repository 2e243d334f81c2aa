"""An exponential moving average of a student's weights, which is what is evaluated and exported."""

import copy

import torch

from supersnn.networks.base import Network


class WeightAverage:
    """The average of a network's weights and statistics over the training's steps.

    After step n, with d = min(decay, n / (n + 9)): average ← d · average + (1 - d) · weights, so that the first steps,
    which are far from the end, do not count for long. Integers (the batch norms' counters) are copied.
    """

    def __init__(self, network: Network, decay: float) -> None:
        self.decay, self.network = decay, copy.deepcopy(network)
        self.network.requires_grad_(False)

    @torch.no_grad()
    def update(self, network: Network, step: int) -> None:
        """Take in the weights after a step, counted from 0."""
        count = step + 1
        share = 1 - min(self.decay, count / (count + 9))
        own, new = self.network.state_dict(), network.state_dict()
        for name, value in own.items():
            if value.is_floating_point():
                value.lerp_(new[name], share)
            else:
                value.copy_(new[name])
