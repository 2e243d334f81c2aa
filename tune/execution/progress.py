"""Signs that a piece of work advances: the work gives them, whoever runs it counts them, or nobody does."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

FIRST_EPOCH = 12
"""Until a process has given its first sign of work it may take so many times `resources.stall`: it loads, compiles, and
downloads teachers and their caches."""

_sign: ContextVar[Callable[[], None] | None] = ContextVar("sign", default=None)


def advanced() -> None:
    """Say that the work under way has advanced: by an epoch, by a view of a cache."""
    if (sign := _sign.get()) is not None:
        sign()


@contextmanager
def counting(sign: Callable[[], None]) -> Iterator[None]:
    """Call `sign` each time that the work in this block advances."""
    token = _sign.set(sign)
    try:
        yield
    finally:
        _sign.reset(token)
