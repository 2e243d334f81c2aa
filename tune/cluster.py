"""Ray: starting it or joining it, the one Tune run of a search, and tasks. The only rooms with Ray are this and
`searcher.py`.
"""

import logging
import math
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

os.environ.update(
    RAY_AIR_NEW_OUTPUT="0",
    TUNE_DISABLE_AUTO_CALLBACK_LOGGERS="1",
    TUNE_PRINT_ALL_TRIAL_ERRORS="0",
    TUNE_DISABLE_SIGINT_HANDLER="1",
    RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0",
    RAY_USAGE_STATS_ENABLED="0",
)

import ray
import ray.tune

from supersnn.errors import UserError
from supersnn.sources.base import data_root
from tune.search import Search
from tune.searcher import StudentTrial, StudyScheduler, StudySearcher
from tune.sweep import ResourcesConfig

T = TypeVar("T")
R = TypeVar("R")


class RayExecutor:
    """Runs a sweep's work on Ray: on this machine's cores, or on the cluster at `address`."""

    def __init__(
        self, resources: ResourcesConfig, max_failures: int, scratch: Path, run: str, address: str | None = None
    ) -> None:
        """Start or join Ray; `scratch` is where Tune keeps its own notes, under a fresh name `run`.

        Raises:
            UserError: the cluster cannot be reached, or has not what a trial needs.
        """
        self._resources, self._max_failures, self._scratch, self._run = resources, max_failures, scratch, run
        for name in ("ray", "ray.tune", "ray.data", "ray.train"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        common = {
            "log_to_driver": False,
            "logging_level": "ERROR",
            "runtime_env": {"env_vars": {"SUPERSNN_DATA": str(data_root().resolve())}},
        }
        try:
            if address is None:
                ray.init(address="local", num_cpus=os.cpu_count(), include_dashboard=False, **common)
            else:
                ray.init(address=address, **common)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise UserError(f"--address {address}: no Ray cluster there: {error}") from error
        self.at_once = self._slots()

    def _slots(self) -> int:
        """How many trials the cluster's resources hold at once."""
        have, need = ray.cluster_resources(), self._resources
        slots = have.get("CPU", 0) / need.cpus
        if need.gpus:
            slots = min(slots, have.get("GPU", 0) / need.gpus)
        if slots < 1:
            raise UserError(
                f"resources: a trial needs {need.cpus:g} CPUs and {need.gpus:g} GPUs; the cluster has "
                f"{have.get('CPU', 0):g} and {have.get('GPU', 0):g}"
            )
        return min(math.floor(slots), need.trials_at_once or math.floor(slots))

    def search(self, search: Search) -> None:
        """Run the search as one Tune run over all arms."""
        trainable = ray.tune.with_resources(StudentTrial, {"CPU": self._resources.cpus, "GPU": self._resources.gpus})
        tuner = ray.tune.Tuner(
            trainable,
            tune_config=ray.tune.TuneConfig(
                search_alg=StudySearcher(search),
                scheduler=StudyScheduler(search),
                num_samples=-1,
                max_concurrent_trials=self.at_once,
                reuse_actors=True,
                trial_name_creator=lambda trial: str(trial.config["job"]["key"]).replace("/", "-"),
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=ray.tune.RunConfig(
                name=self._run,
                storage_path=str(self._scratch.resolve()),
                failure_config=ray.tune.FailureConfig(max_failures=self._max_failures),
                verbose=0,
            ),
        )
        tuner.fit()

    def tasks(self, function: Callable[[T], R], items: Sequence[T]) -> Iterator[tuple[T, R | Exception]]:
        """Yield each item with its result or its exception, as the tasks end."""
        remote = ray.remote(
            num_cpus=self._resources.cpus, num_gpus=self._resources.gpus, max_retries=self._max_failures
        )(function)
        running = {remote.remote(item): item for item in items}
        while running:
            (done,), _ = ray.wait(list(running), num_returns=1)
            item = running.pop(done)
            try:
                yield item, ray.get(done)
            except ray.exceptions.RayError as error:
                yield item, getattr(error, "cause", None) or error

    def close(self) -> None:
        """Leave Ray; what was started here ends with it."""
        ray.shutdown()
        shutil.rmtree(self._scratch / self._run, ignore_errors=True)
