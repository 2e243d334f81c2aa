"""The interface of executors, which run a sweep's work: on Ray (`cluster.py`) or in this process (`local.py`)."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

from tune.description.sweep import ResourcesConfig
from tune.execution.preparations import Preparations
from tune.search.search import Search
from tune.storage import Storage

PAGES = "glibc.malloc.hugetlb=1"
"""The `GLIBC_TUNABLES` of workers: huge pages make the page faults of newly allocated tensors cheaper."""

T = TypeVar("T")
R = TypeVar("R")


class Executor(Protocol):
    """Runs a search's trials, and independent tasks, as many at once as the resources allow.

    `in_process`: tasks run in this process, so that they may call back. `idle` is called in the driver's own thread
    every few seconds while tasks run, in process after each of them. So is `waits`, except in process, with what the
    driver waits for, an empty text where it waits for nothing.
    """

    in_process: bool
    idle: Callable[[], None]
    waits: Callable[[str], None]

    @property
    def gpus(self) -> float:
        """How many GPUs, or what part of one, a task takes."""
        ...

    def adopt(self, resources: ResourcesConfig, max_failures: int) -> None:
        """Go on with other settings, while nothing runs."""

    def tune(self, stall: float, max_failures: int) -> None:
        """Let changed `resources.stall` and `search.max_failures` hold at once, for what runs now too."""

    def search(self, search: Search, preparations: Preparations | None = None) -> None:
        """Run trials until the search suggests no more; every report has been passed to it when this returns.

        A trial whose search has `preparations` to wait for starts when these have ended; others run meanwhile.
        """

    def tasks(self, function: Callable[[T], R], items: Sequence[T]) -> Iterator[tuple[T, R | Exception]]:
        """Yield each item with the function's result or its exception, in the order in which they end."""

    def call(self, function: Callable[[T], R], item: T) -> R:
        """Return the function's result, computed on a machine that has the workers' files."""
        ...

    def shares_files_with(self, storage: Storage) -> bool:
        """Return whether the driver sees the files that workers have in the storage, before they are fetched."""
        ...

    def close(self) -> None:
        """Release all resources; running work is dropped."""
