"""SIGTERM while Ray starts: it sets a handler of its own, which must not be the one that answers."""

import ctypes
import os
import signal
import sys
import time

import pytest
import ray

from supersnn_cli.termination import Termination
from tune.execution import cluster


def exits(_number: int, _frame: object) -> None:
    """Ray's handler, in short."""
    sys.exit(1)


def start_that_is_terminated(rays: bool) -> None:
    """Get the signal before, or after Ray has set its handler."""
    with cluster._own_sigterm_handler():
        if rays:
            signal.signal(signal.SIGTERM, exits)
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("rays", [False, True])
def test_a_signal_while_ray_starts_interrupts_the_command(rays: bool, termination: Termination) -> None:
    with pytest.raises(KeyboardInterrupt):
        start_that_is_terminated(rays)
    assert termination.exit_code(130) == 143
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN, "while the command closes"


@pytest.mark.usefixtures("termination")
def test_rays_handler_does_not_stay() -> None:
    ours = signal.getsignal(signal.SIGTERM)
    with cluster._own_sigterm_handler():
        signal.signal(signal.SIGTERM, exits)
    assert signal.getsignal(signal.SIGTERM) == ours


def test_the_handler_is_there_after_ray_has_taken_it_away(termination: Termination) -> None:
    """It restores the system's default behind Python's back as it ends."""
    with cluster._own_sigterm_handler():
        ctypes.CDLL(None).signal(signal.SIGTERM, None)
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGTERM)
    with cluster._own_sigterm_handler():
        ctypes.CDLL(None).signal(signal.SIGTERM, None)
    os.kill(os.getpid(), signal.SIGTERM)  # ignored: the command is closing
    assert termination.exit_code(130) == 143


def test_a_signal_in_the_middle_of_rays_end_interrupts_the_command(
    termination: Termination, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shutdown() -> None:
        ctypes.CDLL(None).signal(signal.SIGTERM, None)
        time.sleep(0.1)  # it goes on for a second or two
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.1)

    monkeypatch.setattr(ray, "shutdown", shutdown)
    with pytest.raises(KeyboardInterrupt):
        cluster.leave()
    assert termination.exit_code(130) == 143
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN, "while the command closes"
