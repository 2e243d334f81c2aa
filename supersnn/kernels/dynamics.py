"""Interface of the kernels: `Dynamics`, the neurons' constants, and the protocol `Kernel`.

The equations are in the docstring of `supersnn.neurons.lif`.
"""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class Dynamics:
    """The constants of a layer of neurons; a learnable `decay` is a 0-dimensional tensor."""

    threshold: float
    decay: float | Tensor
    hard: bool
    surrogate: str
    width: float
    detach_reset: bool


class Kernel(Protocol):
    """A module with the loop over T steps of N neurons, on tensors [T, N] with contiguous rows.

    A current that is the same at every step has the shape [1, N].
    """

    def forward(
        self, current: Tensor, potentials: Tensor, spikes: Tensor, dynamics: Dynamics, count: Tensor | None = None
    ) -> None:
        """Fill `potentials`, which may be `current` itself if that is [T, N], and `spikes`.

        The number of spikes is added to `count`, a 0-dimensional tensor of float64.
        """

    def backward(
        self, potentials: Tensor, of_spikes: Tensor, of_current: Tensor, dynamics: Dynamics, constant: bool
    ) -> Tensor | None:
        """Fill the gradient `of_current` [T, N], which may be `potentials` itself; return that of a learnable decay.

        If the current is `constant` over time, the first row of `of_current` is the sum over the steps.
        """
