"""A network of norse, whose state is passed from step to step."""

import norse.torch as norse
from torch import nn


def dense(channels: int, side: int, classes: int, hidden: int = 64) -> nn.Module:
    """Return a layer of leaky neurons, and leaky integrators whose potentials are the logits."""
    first = [nn.Flatten(), nn.Linear(channels * side * side, hidden), norse.LIFCell()]
    return norse.SequentialState(*first, nn.Linear(hidden, classes), norse.LICell())
