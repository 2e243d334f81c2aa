"""The action of a signal kept while a library's C code changes it without Python's knowledge."""

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager

EVERY = 0.001
"""Seconds after which the action is set again."""
_SIZE = 1024
"""Bytes that hold C's `struct sigaction` on any Linux."""


@contextmanager
def kept_action(number: int) -> Iterator[None]:
    """Keep what a signal does in this process, but for a millisecond after each change from elsewhere.

    Python's own `signal.signal` in the main thread is such a change too.
    """
    libc, kept, done = ctypes.CDLL(None), ctypes.create_string_buffer(_SIZE), threading.Event()
    libc.sigaction(number, None, kept)

    def keep() -> None:
        while not done.wait(EVERY):
            libc.sigaction(number, kept, None)

    thread = threading.Thread(target=keep, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
