"""The in-process executor: the same sweep without Ray, for debugging and tests, and for packs on one GPU."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from typing import TypeVar

import torch

from supersnn.errors import UserError
from tune.description.searches import PlannedSearch
from tune.description.sweep import ResourcesConfig
from tune.execution.device import device_of, run_on
from tune.execution.failed_teachers import TeacherFailures
from tune.execution.failures import Failure, failure_of
from tune.execution.pack import Failed, Pack
from tune.execution.places import Places
from tune.execution.preparations import PreparationFailed, Preparations
from tune.execution.retries import Retry, RetryPolicy, Stop
from tune.execution.trial import StaleDriverError, TrialRunner
from tune.execution.trial_failures import TrialFailures
from tune.notices import Notify, TaskRetried, ignore
from tune.search.messages import Report
from tune.search.search import Search
from tune.storage import Storage

HELD_EVERY = 1.0
"""Seconds between two looks at requests while nothing but another attempt is waited for."""

T = TypeVar("T")
R = TypeVar("R")


class LocalExecutor:
    """Runs everything in this process, in order."""

    in_process = True

    def __init__(
        self,
        max_failures: int = 0,
        resources: ResourcesConfig | None = None,
        shards: int = 1,
        notify: Notify = ignore,
    ) -> None:
        """Run on this machine's first GPU, or on its CPUs, as the resources of a trial say.

        `notify` is told which tasks are tried again.
        """
        self._policy, self._notify, self._tasks = RetryPolicy(max_failures), notify, 0
        self._shards, self._device = shards, ""
        self._use(resources or ResourcesConfig())
        self.idle: Callable[[], None] = lambda: None
        self.waits: Callable[[str], None] = lambda _: None

    def _use(self, need: ResourcesConfig) -> None:
        """Train with these resources of a trial."""
        self._gpus = need.resolved(self._shards, [torch.cuda.device_count()]).gpus_taken
        self._pack, device = need.pack, device_of(self._gpus)
        if device != self._device:  # else the runner keeps its images
            self._device, self._runner = device, TrialRunner(device)

    @property
    def gpus(self) -> float:
        """How many GPUs a task takes."""
        return self._gpus

    def adopt(self, resources: ResourcesConfig, max_failures: int) -> None:
        """Go on with other settings, while nothing runs."""
        self._use(resources)
        self._policy.max_failures = max_failures

    def tune(self, stall: float, max_failures: int) -> None:
        """Let a changed `search.max_failures` hold at once; what hangs here is the driver itself."""
        del stall
        self._policy.max_failures = max_failures

    def search(self, search: Search, preparations: Preparations | None = None) -> None:
        """Run the search's trials, `resources.pack` at once; one that raises is retried from its checkpoint.

        A teacher is prepared just before the first trial that needs it.

        What the driver's own bookkeeping raises is no trial's fault: it ends the search, and the trials stay
        interrupted.
        """
        search.gpus = self._gpus
        failures = TrialFailures(search, self._policy)
        ready = partial(self._prepared, search, preparations)
        with closing(Pack(Places(self._pack, self._device))) as pack:
            may_start = True
            while may_start or pack or (held := _held(search, preparations)):
                search.poll()
                if search.over:
                    return
                if not (may_start or pack):
                    search.waits(f"the next attempt of {held}")
                    time.sleep(HELD_EVERY)
                    may_start = True
                while may_start and pack.free:
                    if (job := search.next_job(ready)) is None:
                        may_start = False
                    else:
                        search.waits("")
                        pack.add(job.key, partial(self._runner.run_in_parts, job))
                if (happened := pack.turn()) is not None:
                    self._take(search, pack, failures, *happened)
                    may_start = True
            search.waits("")

    def _prepared(self, search: Search, preparations: Preparations | None, planned: PlannedSearch) -> bool:
        """Prepare the teachers that one of the searches lacks; return whether it is ready then."""
        if preparations is None:
            return True
        teachers = TeacherFailures(search, preparations, self._policy)
        for item in preparations.missing(planned.name):
            while search.halted is None and preparations.may_start(item) and item in preparations.missing(planned.name):
                if preparations.wait(item):
                    return False
                key = preparations.start(item)
                search.waits("")
                try:
                    result = run_on(self._device, preparations.work, item)
                except Exception as error:
                    failure, told = failure_of(error), PreparationFailed.of(error)
                    if told.by_user and not failure.of_system:
                        preparations.ended(key, told)
                    else:
                        teachers.failed(key, failure, trace=told.trace)
                    if failure.fatal:
                        search.halt(_unusable(failure))
                else:
                    teachers.prepared(key, result)
        return not preparations.missing(planned.name)

    def _take(self, search: Search, pack: Pack, failures: TrialFailures, key: str, outcome: Report | Failed) -> None:
        """Take what a trial's turn has brought: it goes on, is requeued, or has ended."""
        if isinstance(outcome, Report):
            failures.reported(key)
            if search.reported(key, outcome):
                pack.remove(key)
            return
        if isinstance(outcome.error, StaleDriverError):
            raise outcome.error
        failure = failure_of(outcome.error)
        if not failure.fatal:
            failures.failed(key, failure)
            return
        if not pack.running:  # else it may be the error of one of those
            failures.failed(key, failure)
        search.halt(_unusable(failure))

    def tasks(self, function: Callable[[T], R], items: Sequence[T]) -> Iterator[tuple[T, R | Exception]]:
        """Yield each item with its result, or the error that it has failed with for good.

        Raises:
            UserError: everything fails.
        """
        for item in items:
            result = self._result(function, item)
            self.idle()
            yield item, result

    def _result(self, function: Callable[[T], R], item: T) -> R | Exception:
        """Run a task, again where it fails and the retry policy says so."""
        self._tasks += 1
        key = f"~tasks/{self._tasks}"
        while True:
            try:
                result = run_on(self._device, function, item)
            except Exception as error:
                if not self._again(key, item, error):
                    return error
            else:
                self._policy.succeeded(key)
                self._policy.ended(key)
                return result

    def _again(self, key: str, item: object, error: Exception) -> bool:
        """Return whether a task that has failed is run again.

        Raises:
            UserError: everything fails.
        """
        failure = failure_of(error)
        if isinstance(error, StaleDriverError) or (isinstance(error, UserError) and not failure.of_system):
            return False
        if failure.kind == "disk":
            return False  # it is the store's own, which another attempt finds as full
        decision = self._policy.failed(key, failure)
        if isinstance(decision, Stop):
            raise UserError(decision.text) from error
        if isinstance(decision, Retry):
            self._notify(TaskRetried(str(getattr(item, "label", key)), None, failure.text))
            _pause(decision.wait, self.idle)
        return isinstance(decision, Retry)

    def call(self, function: Callable[[T], R], item: T) -> R:
        """Return the function's result."""
        return run_on(self._device, function, item)

    def shares_files_with(self, storage: Storage) -> bool:
        """Return whether this process, as a worker, uses the driver's files."""
        return storage.shares_root_with_workers()

    def close(self) -> None:
        """Do nothing: no resources are held."""


def _held(search: Search, preparations: Preparations | None) -> str:
    """Return the name of what is to be tried again, and not yet; empty where nothing is."""
    if search.held:
        return search.held[0]
    return "a teacher" if preparations is not None and preparations.held else ""


def _pause(seconds: float, poll: Callable[[], None]) -> None:
    """Wait before another attempt; `poll` is called meanwhile."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(HELD_EVERY, left))
        poll()


def _unusable(failure: Failure) -> UserError:
    """Return the error that ends a search whose process can use its GPU no more."""
    return UserError(f"{failure.text}; nothing more can run in this process: rerun the same command")
