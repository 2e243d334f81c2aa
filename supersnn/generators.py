"""torch's own generators, seeded for one purpose, in blocks between which others may use them."""

from types import TracebackType

import torch
from torch import Tensor


class Generators:
    """The state of torch's default generators of the CPU and one device, after `torch.manual_seed(seed)`.

    As a context manager it puts that state in place, and afterwards the one that was there before. The next block goes
    on where the last one ended, so that several such states can take turns.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self._seed, self._device = seed, device
        self._own: list[Tensor] | None = None
        self._outer: list[Tensor] = []

    def __enter__(self) -> None:
        self._outer = self._states()
        if self._own is None:
            torch.manual_seed(self._seed)
        else:
            self._set(self._own)

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._own = self._states()
        self._set(self._outer)

    def _states(self) -> list[Tensor]:
        states = [torch.get_rng_state()]
        if self._device.type == "cuda":
            states.append(torch.cuda.get_rng_state(self._device))
        return states

    def _set(self, states: list[Tensor]) -> None:
        torch.set_rng_state(states[0])
        if self._device.type == "cuda":
            torch.cuda.set_rng_state(states[1], self._device)
