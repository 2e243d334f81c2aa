"""The in-process executor: the same sweep without Ray, one trial at a time, for debugging and tests."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from tune.execution.trial import StaleDriverError, TrialRunner
from tune.search.search import Search
from tune.storage import Storage

T = TypeVar("T")
R = TypeVar("R")


class LocalExecutor:
    """Runs everything in this process, in order."""

    def __init__(self, max_failures: int = 0) -> None:
        self._max_failures = max_failures
        self._runner = TrialRunner()

    def search(self, search: Search) -> None:
        """Run the search's trials one after another; one that raises is retried from its checkpoint."""
        while (job := search.next_job()) is not None:
            for attempt in range(self._max_failures + 1):
                try:
                    for report in self._runner.run(job):
                        if search.reported(job.key, report):
                            break
                    break
                except StaleDriverError:
                    raise
                except Exception:
                    if attempt == self._max_failures:
                        search.failed(job.key)

    def tasks(self, function: Callable[[T], R], items: Sequence[T]) -> Iterator[tuple[T, R | Exception]]:
        """Yield each item with its result or its exception."""
        for item in items:
            try:
                yield item, function(item)
            except Exception as error:
                yield item, error

    def call(self, function: Callable[[T], R], item: T) -> R:
        """Return the function's result."""
        return function(item)

    def shares_files_with(self, storage: Storage) -> bool:
        """Return whether this process, as a worker, uses the driver's files."""
        return storage.shares_root_with_workers()

    def close(self) -> None:
        """Do nothing: no resources are held."""
