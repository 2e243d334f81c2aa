"""SIGTERM interrupts a command as SIGINT does: it closes its work in an orderly way and ends with 143."""

import signal
from types import FrameType

INTERRUPTED = 130
TERMINATED = 143


class Termination:
    """The handler of SIGTERM, which `ray job stop`, Slurm's time limit, `kubectl delete` and `docker stop` send.

    The first signal raises KeyboardInterrupt in the main thread; later ones are ignored while the command closes.
    """

    def __init__(self) -> None:
        """Become the handler."""
        self._received = False
        signal.signal(signal.SIGTERM, self._interrupt)

    def exit_code(self, code: int | str | None) -> int | str | None:
        """Return a command's exit code: 143 instead of that of an interrupt, where SIGTERM was the cause."""
        return TERMINATED if self._received and code == INTERRUPTED else code

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        self._received = True
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise KeyboardInterrupt
