"""Ports, and programs that serve until the end of a block."""

import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any


def free_port() -> int:
    """Return a port of the loopback that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def responds(page: str) -> bool:
    """Return whether a page can be fetched."""
    try:
        urllib.request.urlopen(page, timeout=5).close()
    except OSError:
        return False
    return True


@contextmanager
def running(
    command: Sequence[str], page: str, seconds: float = 120, **options: Any
) -> Iterator["subprocess.Popen[str]"]:
    """Run a program in the background, from when `page` can be fetched until the end of the block.

    Args:
        command: the program and its arguments.
        page: an address that it serves.
        seconds: how long it may take until then.
        options: of `subprocess.Popen`.
    """
    with subprocess.Popen(command, start_new_session=True, text=True, **options) as process:
        try:
            deadline = time.monotonic() + seconds
            while not responds(page):
                assert process.poll() is None, f"{command[0]} has ended before it served {page}"
                assert time.monotonic() < deadline, f"{command[0]} does not serve {page}"
                time.sleep(0.2)
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
