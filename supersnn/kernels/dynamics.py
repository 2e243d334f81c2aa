"""What all kernels are told of the neurons whose loop they run. The equations stand in `supersnn.neurons.lif`."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class Dynamics:
    """How neurons behave; `decay` is 0-dimensional where it learns."""

    threshold: float
    decay: float | Tensor
    hard: bool
    surrogate: str
    width: float
    detach_reset: bool


class Kernel(Protocol):
    """The loop over T steps of N neurons, whose tensors are [T, N], each step contiguous; a module with two functions.

    A current that is the same at each step is [1, N].
    """

    def forward(self, current: Tensor, potentials: Tensor, spikes: Tensor, dynamics: Dynamics) -> None:
        """Fill `potentials`, which may be `current` itself where that is [T, N], and `spikes`."""

    def backward(
        self, potentials: Tensor, of_spikes: Tensor, of_current: Tensor, dynamics: Dynamics, constant: bool
    ) -> Tensor | None:
        """Fill the gradient `of_current` [T, N], which may be `potentials` itself; return that of a learnable decay.

        Where the current is `constant` over time, the first row of `of_current` is the sum of all rows.
        """
