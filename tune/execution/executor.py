"""What carries a sweep's work out: Ray (`cluster.py`) or this process (`local.py`), behind the same few calls."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

from tune.search.driver import Search

PAGES = "glibc.malloc.hugetlb=1"
"""A worker's `GLIBC_TUNABLES`: tensors in huge pages, where a step's fresh maps cost less time in page faults."""

T = TypeVar("T")
R = TypeVar("R")


class Executor(Protocol):
    """Runs a search's trials, and independent tasks, as many at once as there are resources.

    here: whether all work is done on this machine, so that the driver sees what its workers see.
    """

    here: bool

    def search(self, search: Search) -> None:
        """Run trials until the search hands out no more; every report has been taken when this returns."""

    def tasks(self, function: Callable[[T], R], items: Sequence[T]) -> Iterator[tuple[T, R | Exception]]:
        """Yield each item with the function's result, or the exception that it ended in, as they come."""

    def close(self) -> None:
        """Give back what was taken; work under way is dropped."""
