"""The two hooks by which Ray Tune asks our search: what to run next, and whether a trial goes on. Both are thin."""

import json
from collections.abc import Callable
from typing import Any

import ray.tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from tune.execution.trial import Runner
from tune.search.driver import Job, Report, Search


class _NotKept:
    """Tune keeps a copy of what conducts a run; ours is empty, because the studies hold the state."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class StudySearcher(_NotKept, Searcher):
    """Hands the search's jobs to Tune, as many at once as there is room for at the time.

    Results go through `StudyScheduler`, which sees every one of them.
    """

    def __init__(self, search: Search, room: Callable[[], int]) -> None:
        super().__init__()
        self._search, self._room = search, room
        self._keys: dict[str, str] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the next job as a trial's configuration, None for not yet, or that there are no more."""
        if len(self._keys) >= self._room():
            return None
        job = self._search.next_job()
        if job is None:
            return Searcher.FINISHED
        self._keys[trial_id] = job.key
        return {"job": vars(job)}

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
    """Takes each report to the search, and stops the trial where the search says so."""

    def __init__(self, search: Search) -> None:
        super().__init__()
        self._search = search

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Return Tune's word for going on or stopping."""
        stop = self._search.reported(trial.config["job"]["key"], Report(**json.loads(result["report"])))
        return TrialScheduler.STOP if stop else TrialScheduler.CONTINUE


class StudentTrial(ray.tune.Trainable):
    """The actor: one step is one epoch; a reused actor keeps its images and starts the next job at once."""

    def setup(self, config: dict[str, Any]) -> None:
        """Begin the first job."""
        self._runner = Runner()
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin the next job in the same process."""
        self._reports = self._runner.run(Job(**new_config["job"]))
        return True

    def step(self) -> dict[str, Any]:
        """Train an epoch and return its report, as text, because Tune would take its mappings apart.

        A trial never says itself that it is done: Tune would not show that last result to the scheduler.
        """
        return {"report": json.dumps(vars(next(self._reports)))}

    def cleanup(self) -> None:
        """Close the last job, so that nothing of it stays on this node."""
        self._reports.close()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: the runner keeps the trial's own checkpoint."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing: the runner reads the trial's own checkpoint."""
