"""The in-process executor: the same sweep without Ray, one trial at a time, for debugging and tests."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import TypeVar

import torch

from tune.description.searches import PlannedSearch
from tune.description.sweep import ResourcesConfig
from tune.execution.device import device_of, run_on
from tune.execution.preparations import Preparations
from tune.execution.trial import StaleDriverError, TrialRunner
from tune.search.messages import Job
from tune.search.search import Search
from tune.storage import Storage

T = TypeVar("T")
R = TypeVar("R")


class LocalExecutor:
    """Runs everything in this process, in order."""

    in_process = True

    def __init__(self, max_failures: int = 0, resources: ResourcesConfig | None = None, shards: int = 1) -> None:
        """Run on this machine's first GPU, or on its CPUs, as the resources of a trial say."""
        self._max_failures = max_failures
        need = resources or ResourcesConfig()
        self._gpus = need.resolved(shards, [torch.cuda.device_count()]).gpus_taken
        self._device = device_of(self._gpus)
        self._runner = TrialRunner(self._device)
        self.idle: Callable[[], None] = lambda: None

    def adopt(self, resources: ResourcesConfig, max_failures: int) -> None:
        """Go on with other settings; there is one slot whatever the resources."""
        del resources
        self._max_failures = max_failures

    def search(self, search: Search, preparations: Preparations | None = None) -> None:
        """Run the search's trials one after another; one whose training raises is retried from its checkpoint.

        A teacher is prepared just before the first trial that needs it.

        What the driver's own bookkeeping raises is no trial's fault: it ends the search, and the trial stays
        interrupted.
        """
        search.gpus = self._gpus

        def ready(planned: PlannedSearch) -> bool:
            if preparations is None:
                return True
            for item in preparations.missing(planned.name):
                key = preparations.start(item)
                preparations.ended(key, run_on(self._device, preparations.work, item))
            return True

        while (job := self._next(search, ready)) is not None:
            if not any(self._completed(search, job) for _ in range(self._max_failures + 1)):
                search.failed(job.key)

    def _next(self, search: Search, ready: Callable[[PlannedSearch], bool]) -> Job | None:
        search.poll()
        return search.next_job(ready)

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
                search.poll()
                if search.left:
                    return True

    def tasks(self, function: Callable[[T], R], items: Sequence[T]) -> Iterator[tuple[T, R | Exception]]:
        """Yield each item with its result or its exception."""
        for item in items:
            result: R | Exception
            try:
                result = run_on(self._device, function, item)
            except Exception as error:
                result = error
            self.idle()
            yield item, result

    def call(self, function: Callable[[T], R], item: T) -> R:
        """Return the function's result."""
        return run_on(self._device, function, item)

    def shares_files_with(self, storage: Storage) -> bool:
        """Return whether this process, as a worker, uses the driver's files."""
        return storage.shares_root_with_workers()

    def close(self) -> None:
        """Do nothing: no resources are held."""
