"""The in-process executor: the same sweep without Ray, one trial at a time, for debugging and tests."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import TypeVar

from tune.execution.trial import StaleDriverError, TrialRunner
from tune.search.messages import Job
from tune.search.search import Search
from tune.storage import Storage

T = TypeVar("T")
R = TypeVar("R")


class LocalExecutor:
    """Runs everything in this process, in order."""

    in_process = True

    def __init__(self, max_failures: int = 0) -> None:
        self._max_failures = max_failures
        self._runner = TrialRunner()

    def search(self, search: Search) -> None:
        """Run the search's trials one after another; one whose training raises is retried from its checkpoint.

        What the driver's own bookkeeping raises is no trial's fault: it ends the search, and the trial stays
        interrupted.
        """
        while (job := search.next_job()) is not None:
            if not any(self._completed(search, job) for _ in range(self._max_failures + 1)):
                search.failed(job.key)

    def _completed(self, search: Search, job: Job) -> bool:
        """Run a trial until it ends; return False where its training raised."""
        with closing(self._runner.run(job)) as reports:
            while True:
                try:
                    report = next(reports, None)
                except StaleDriverError:
                    raise
                except Exception:
                    return False
                if report is None or search.reported(job.key, report):
                    return True

    def tasks(self, function: Callable[[T], R], items: Sequence[T]) -> Iterator[tuple[T, R | Exception]]:
        """Yield each item with its result or its exception."""
        for item in items:
            result: R | Exception
            try:
                result = function(item)
            except Exception as error:
                result = error
            yield item, result

    def call(self, function: Callable[[T], R], item: T) -> R:
        """Return the function's result."""
        return function(item)

    def shares_files_with(self, storage: Storage) -> bool:
        """Return whether this process, as a worker, uses the driver's files."""
        return storage.shares_root_with_workers()

    def close(self) -> None:
        """Do nothing: no resources are held."""
