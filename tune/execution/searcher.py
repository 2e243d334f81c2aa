"""The hooks by which Ray Tune asks our search: what to run next, whether a trial goes on, whether all of it does."""

import json
import time
from collections.abc import Callable
from typing import Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.tune.stopper import Stopper

from supersnn.errors import UserError
from tune.execution.preflight import NodeMismatch
from tune.search.driver import Search
from tune.search.messages import Report

LOOK = 5.0
"""Seconds after which it is looked again whether a fit node is left; Ray takes some to find that one is lost."""


class _NotKept:
    """Tune keeps a copy of what conducts a run; ours is empty, because the studies hold the state."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class StudySearcher(_NotKept, Searcher):
    """Hands the search's jobs to Tune, as many at once as there is room for at the time.

    `room` says how many, `about` what else a trial's configuration has beside its job. Results go through
    `StudyScheduler`, which sees every one of them.
    """

    def __init__(self, search: Search, room: Callable[[], int], about: Callable[[], dict[str, Any]]) -> None:
        super().__init__()
        self._search, self._room, self._about = search, room, about
        self._keys: dict[str, str] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the next job as a trial's configuration, None for not yet, or that there are no more.

        While a trial is under way there may be more: it may be handed back.
        """
        if len(self._keys) >= self._room():
            return None
        job = self._search.next_job()
        if job is None:
            return None if self._keys else Searcher.FINISHED
        self._keys[trial_id] = job.key
        return {"job": vars(job), **self._about()}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Nothing: the scheduler has taken it."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Close a trial that gave up; one that ended by itself or was stopped is closed already."""
        self._search.failed(self._keys.pop(trial_id))

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the studies are on disk."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: a restarted sweep begins a new run over the same studies."""

    def set_search_properties(self, *args: Any, **spec: Any) -> bool:
        """Refuse Tune's own metric and space: the studies have them."""
        return False


class StudyScheduler(_NotKept, FIFOScheduler):
    """Takes each report to the search, and stops the trial where the search says so.

    A trial that found its node unfit is handed back, and `refuse` hears of the node.
    """

    def __init__(self, search: Search, refuse: Callable[[NodeMismatch], None]) -> None:
        super().__init__()
        self._search, self._refuse = search, refuse

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Return Tune's word for going on or stopping."""
        key = trial.config["job"]["key"]
        if "node_mismatch" in result:
            self._refuse(NodeMismatch(**json.loads(result["node_mismatch"])))
            self._search.requeue(key)
            return TrialScheduler.STOP
        stop = self._search.reported(key, Report(**json.loads(result["report"])))
        return TrialScheduler.STOP if stop else TrialScheduler.CONTINUE


class NoUsableNodesStopper(_NotKept, Stopper):
    """Ends the run where `stranded` gives a reason: trials that wait for a node would wait for ever."""

    def __init__(self, search: Search, stranded: Callable[[], UserError | None]) -> None:
        self._search, self._stranded, self._looked = search, stranded, time.monotonic()

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Let a trial go on: the scheduler decides on it."""
        return False

    def stop_all(self) -> bool:
        """Say whether the run is to end now; what is under way has been handed back then."""
        if time.monotonic() - self._looked < LOOK:
            return False
        self._looked = time.monotonic()
        reason = self._stranded()
        if reason is not None:
            self._search.halt(reason)
        return reason is not None
