"""The two hooks by which Ray Tune asks our search: what to run next, and whether a trial goes on. Both are thin."""

from typing import Any

import ray.tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from tune.search import Job, Search
from tune.trial import Runner


class StudySearcher(Searcher):
    """Hands the search's jobs to Tune. Results go through `StudyScheduler`, which sees every one of them."""

    def __init__(self, search: Search) -> None:
        super().__init__()
        self._search = search
        self._keys: dict[str, str] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        """Return the next job as a trial's configuration, or that there are no more."""
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

    def set_search_properties(self, *args: Any, **spec: Any) -> bool:
        """Refuse Tune's own metric and space: the studies have them."""
        return False


class StudyScheduler(FIFOScheduler):
    """Takes each report to the search, and stops the trial where the search says so."""

    def __init__(self, search: Search) -> None:
        super().__init__()
        self._search = search

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Return Tune's word for going on or stopping."""
        key = trial.config["job"]["key"]
        stop = self._search.reported(key, result["epoch"], result["metrics"], result["ended"])
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
        """Train an epoch and return its report."""
        report = next(self._reports)
        return {
            "epoch": report.epoch,
            "metrics": report.metrics,
            "ended": report.ended,
            "done": report.ended is not None,
        }

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: the runner keeps the trial's own checkpoint."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing: the runner reads the trial's own checkpoint."""
