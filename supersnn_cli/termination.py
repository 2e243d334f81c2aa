"""SIGTERM interrupts a command as SIGINT does: it closes its work in an orderly way and ends with 143."""

import signal
import sys
from types import FrameType
from typing import Any

INTERRUPTED = 130
TERMINATED = 143

_AGAIN = 0.1
"""Seconds until a signal is taken that could not be."""
_AT_MOST = 100
"""How often it is put off."""
_IMPORTING = "<frozen importlib._bootstrap>"


class Termination:
    """The handler of SIGTERM, which `ray job stop`, Slurm's time limit, `kubectl delete` and `docker stop` send.

    The first signal raises KeyboardInterrupt in the main thread; later ones are ignored while the command closes. It
    waits for the end of an import, whose locks would stay held, and is raised again where Python has ignored it, as it
    does in destructors.
    """

    def __init__(self) -> None:
        """Become the handler."""
        self._received, self._put_off = False, 0
        self._unraisable = sys.unraisablehook
        signal.signal(signal.SIGTERM, self._terminate)

    def exit_code(self, code: int | str | None) -> int | str | None:
        """Return a command's exit code: 143 instead of that of an interrupt, where SIGTERM was the cause."""
        return TERMINATED if self._received and code == INTERRUPTED else code

    def close(self) -> None:
        """Raise nothing any more: the command has ended."""
        if self._received:
            signal.signal(signal.SIGALRM, signal.SIG_IGN)
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _terminate(self, _number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGALRM, self._interrupt)
        sys.unraisablehook = self._ignored
        self._received = True
        self._interrupt(signal.SIGALRM, frame)

    def _interrupt(self, _number: int, frame: FrameType | None) -> None:
        if _is_importing(frame) and self._put_off < _AT_MOST:
            self._put_off += 1
            signal.setitimer(signal.ITIMER_REAL, _AGAIN)
            return
        raise KeyboardInterrupt

    def _ignored(self, unraisable: Any) -> None:
        """Take an exception that Python ignores."""
        if unraisable.exc_type is KeyboardInterrupt:
            signal.setitimer(signal.ITIMER_REAL, _AGAIN)
        else:
            self._unraisable(unraisable)


def _is_importing(frame: FrameType | None) -> bool:
    """Return whether a frame is within an import."""
    while frame is not None:
        if frame.f_code.co_filename == _IMPORTING:
            return True
        frame = frame.f_back
    return False
