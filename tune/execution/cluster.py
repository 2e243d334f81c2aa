"""The executor on Ray: start or join a cluster, run a search as one Tune run, run tasks.

Of this package `actor.py`, `cluster_state.py`, `node_check.py`, `preflight.py` and `searcher.py` import Ray as well.
"""

import logging
import os
import shutil
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

os.environ.update(
    RAY_AIR_NEW_OUTPUT="0",
    TUNE_DISABLE_AUTO_CALLBACK_LOGGERS="1",
    TUNE_PRINT_ALL_TRIAL_ERRORS="0",
    TUNE_DISABLE_SIGINT_HANDLER="1",
    TUNE_STATE_REFRESH_PERIOD="1000000",  # it asks the head for resources that nobody reads, and waits for the answer
    TUNE_GLOBAL_CHECKPOINT_S="1000000",  # the studies hold the state; copies of it take up to a twentieth of the time
    RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0",
    RAY_TRAIN_COUNT_PREEMPTION_AS_FAILURE="1",  # else Tune itself starts the trials of a drained node again
    RAY_USAGE_STATS_ENABLED="0",
    TUNE_MAX_PENDING_TRIALS_PG="1000000",  # the searcher limits the trials to the capacity
)

import ray
import ray.tune

from supersnn import plugins
from supersnn.errors import ExternalError, UserError, shortened
from supersnn.sources.base import data_root
from tune.description.devices import devices_text
from tune.description.sweep import ResourcesConfig
from tune.execution.actor import StudentTrial
from tune.execution.cluster_state import ClusterState, living_nodes, nobody_else, occupancy
from tune.execution.device import run_on
from tune.execution.executor import PAGES
from tune.execution.latest import Latest
from tune.execution.nodes import bundle, gpus_of
from tune.execution.preflight import preflight, require_capacity
from tune.execution.preparations import Preparations
from tune.execution.searcher import DriverWork, SearchStopper, StudyScheduler, StudySearcher
from tune.execution.signal_action import kept_action
from tune.execution.task_pool import TaskPool
from tune.execution.trial_watch import TrialWatch
from tune.execution.tune_actors import adapted_tune
from tune.notices import DevicesChosen, Notify
from tune.own_code import NO_OWN_CODE, OwnCode
from tune.search.search import Search
from tune.storage import Storage
from tune.versions import PACKAGES

LOCAL_SETTINGS = {
    "RAY_prestart_worker_first_driver": "0",  # processes that come too late for the first trials
    "RAY_enable_metrics_collection": "0",
    "RAY_task_events_report_interval_ms": "0",
}
"""Ray's settings where it is started for one sweep: no metrics that nobody reads, all cores for the trials."""

LONGEST_SOCKET = 107
"""Bytes that Linux allows for the path of a socket."""
SOCKET = "/ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
"""The longest path of a socket that Ray makes in its folder."""

QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}

T = TypeVar("T")
R = TypeVar("R")


class RayExecutor:
    """Runs a sweep's work on Ray: on this machine's cores, or on the cluster at `address`."""

    in_process = False

    def __init__(
        self,
        resources: ResourcesConfig,
        max_failures: int,
        scratch: Path,
        run: str,
        storage: Storage,
        check_file: str,
        notify: Notify,
        address: str | None = None,
        shards: int = 1,
        own: OwnCode = NO_OWN_CODE,
    ) -> None:
        """Start Ray, or join the cluster at `address` and run the preflight checks on its nodes.

        Args:
            resources: of one trial; `gpus: auto` is resolved by the GPUs of the nodes.
            max_failures: how often a trial or a task is tried again.
            scratch: the folder for Tune's own files, under the fresh name `run`.
            run: see `scratch`.
            storage: what driver and workers share.
            check_file: the name of a text in the storage that every process must be able to read before it works.
            notify: is called with `NodeExcluded` for each node that gets no work.
            address: of the cluster.
            shards: of one trial's batches.
            own: the user's packages, which are shipped to the cluster's nodes and compared there.

        Raises:
            ExternalError: Ray does not start on this machine.
            UserError: the cluster cannot be joined, or none of its nodes can be used or hold a trial.
        """
        self._scratch, self._run, self._shards = scratch, run, shards
        self.idle: Callable[[], None] = lambda: None
        self.waits: Callable[[str], None] = lambda _: None
        self._searches = 0
        for name in ("ray", "ray.tune", "ray.data", "ray.train"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self._on_this_machine = address is None
        _start() if address is None else join(address, own)
        try:
            resources = self._resolved(resources)
            if address is None or resources.trials_at_once is None:
                require_capacity(living_nodes(), resources)
            checked = None if address is None else preflight(storage, resources, check_file, own.identities, notify)
        except BaseException:
            self.close()
            raise
        self._resources = resources
        self._cluster = ClusterState(
            resources,
            None if checked is None else checked.requirements,
            notify,
            nodes=Latest(living_nodes),
            max_failures=max_failures,
            occupied=nobody_else if address is None else Latest(occupancy),
        )
        self._pool, self._notify = TaskPool(self._cluster, notify), notify
        if checked is not None:
            self._cluster.leave_out(checked.faulty, checked.differing)
        if gpus := gpus_of(living_nodes()):
            notify(DevicesChosen(devices_text(resources, shards, gpus)))

    def _resolved(self, resources: ResourcesConfig) -> ResourcesConfig:
        """Return resources with `gpus: auto` replaced by what the cluster has."""
        return resources.resolved(self._shards, (node.resources.get("GPU", 0.0) for node in living_nodes()))

    @property
    def gpus(self) -> float:
        """How many GPUs, or what part of one, a task takes."""
        return self._resources.gpus_taken

    def adopt(self, resources: ResourcesConfig, max_failures: int) -> None:
        """Go on with other settings, while nothing runs.

        Raises:
            UserError: no node holds a trial with these resources.
        """
        resources = self._resolved(resources)
        if self._on_this_machine or resources.trials_at_once is None:
            require_capacity(living_nodes(), resources)
        self._resources = resources
        self._pool.close()
        self._cluster.adopt(resources)
        self._cluster.policy.max_failures = max_failures

    def tune(self, stall: float, max_failures: int) -> None:
        """Let changed `resources.stall` and `search.max_failures` hold at once, for what runs now too."""
        self._cluster.policy.max_failures = max_failures
        self._cluster.tune(stall)

    def search(self, search: Search, preparations: Preparations | None = None) -> None:
        """Run all searches as one Tune run; it is halted where no usable nodes are left.

        Preparations are trials of that run as well: Tune keeps the resources of processes that it may use again, which
        tasks beside it would wait for.

        Raises:
            ExternalError: the Ray cluster has failed.
            Exception: what the driver's own bookkeeping has raised; what is under way stays interrupted.
        """
        self._pool.close()
        driver, watch = DriverWork(), TrialWatch(search, self._cluster, partial(_slowest, search, preparations))
        search.gpus = self._resources.gpus_taken / self._resources.places
        self._searches += 1
        self._cluster.start_keeper()
        tuner = ray.tune.Tuner(
            ray.tune.with_resources(StudentTrial, partial(_placement, bundle(self._resources))),
            tune_config=ray.tune.TuneConfig(
                search_alg=StudySearcher(search, self._cluster, driver, preparations, watch),
                scheduler=StudyScheduler(search, self._cluster, driver, preparations, watch),
                num_samples=-1,
                reuse_actors=True,
                trial_name_creator=lambda trial: str(trial.config["key"]).replace("/", "-"),
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=ray.tune.RunConfig(
                name=f"{self._run}-{self._searches}",
                storage_path=str(self._scratch.resolve()),
                stop=SearchStopper(search, self._cluster, driver, watch),
                callbacks=[watch],
                failure_config=ray.tune.FailureConfig(max_failures=0),  # failed attempts are the search's: it decides
                checkpoint_config=ray.tune.CheckpointConfig(checkpoint_at_end=False),  # nodes may not see the path
                verbose=0,
            ),
        )
        try:
            with adapted_tune():
                tuner.fit()
        except (ray.exceptions.RayError, ray.tune.TuneError) as error:
            if driver.error is None:
                last = str(error).strip().rpartition("\n")[2]
                raise ExternalError(f"the Ray cluster has failed: {shortened(last, 300)}") from error
        if driver.error is not None:
            raise driver.error

    def tasks(self, function: Callable[[T], R], items: Sequence[T]) -> Iterator[tuple[T, R | Exception]]:
        """Yield each item with its result or its exception, as the tasks end.

        Raises:
            UserError: no usable nodes are left, or everything fails.
        """
        yield from self._tasks_in(self._pool, function, items)

    def _tasks_in(
        self, pool: TaskPool, function: Callable[[T], R], items: Sequence[T]
    ) -> Iterator[tuple[T, R | Exception]]:
        return pool.run(function, items, lambda: self.idle(), lambda reason: self.waits(reason))

    def call(self, function: Callable[[T], R], item: T) -> R:
        """Return the function's result: from this process where it sees the workers' files, else from a task."""
        if self._on_this_machine:
            return run_on(self._cluster.device, function, item)
        pool = TaskPool(self._cluster, self._notify, light=True)
        try:
            ((_, result),) = self._tasks_in(pool, function, [item])
        finally:
            pool.close()
        if isinstance(result, Exception):
            raise result
        return result

    def shares_files_with(self, storage: Storage) -> bool:
        """Return whether the workers' files in the storage are this process's own."""
        return self._on_this_machine and storage.shares_root_with_workers()

    def close(self) -> None:
        """Leave the cluster, or end the one that was started; remove Tune's files."""
        leave()
        for folder in self._scratch.glob(f"{self._run}-*"):
            shutil.rmtree(folder, ignore_errors=True)


def _slowest(search: Search, preparations: Preparations | None, key: str) -> float | None:
    """Return the seconds of the slowest epoch of a trial's search, or between two signs of a preparation."""
    if preparations is not None and preparations.has(key):
        return preparations.slowest()
    return search.slowest_epoch(key)


def _placement(resources: dict[str, float], config: dict[str, Any]) -> ray.tune.PlacementGroupFactory:
    """Return the resources of a trial, and the labels that its node must have."""
    labels = {"bundle_label_selector": [config["labels"]]} if config["labels"] else {}
    return ray.tune.PlacementGroupFactory([resources], **labels)


def _variables() -> dict[str, str]:
    """Return the environment variables of every worker."""
    return {"SUPERSNN_DATA": str(data_root().resolve()), "GLIBC_TUNABLES": os.environ.get("GLIBC_TUNABLES", PAGES)}


def _start() -> None:
    """Start Ray on this machine; its processes inherit the variables, and workers inherit them from those."""
    name, folder = temporary_folder()
    require_short_paths(name, folder)
    settings = {name: os.environ.get(name, value) for name, value in LOCAL_SETTINGS.items()}
    try:
        with _environment({**settings, **_variables()}), _own_sigterm_handler():
            ray.init(address="local", num_cpus=os.cpu_count(), include_dashboard=False, **QUIET)
    except Exception as error:
        text = shortened(str(error) or type(error).__name__, 300)
        raise ExternalError(
            f"Ray does not start on this machine: {text}; its logs are in {folder}/ray, and --local "
            "runs the sweep without Ray"
        ) from error


def temporary_folder() -> tuple[str, str]:
    """Return the folder below which Ray keeps its sockets and logs, and the variable that sets it."""
    name = next((name for name in ("RAY_TMPDIR", "TMPDIR") if name in os.environ), "RAY_TMPDIR")
    return name, os.environ.get(name, "/tmp")


def require_short_paths(name: str, folder: str) -> None:
    """Refuse a folder for temporary files in which the paths of Ray's sockets would be too long for Linux.

    Raises:
        UserError: it is too long.
    """
    longest = LONGEST_SOCKET - len(SOCKET.encode())
    if len(os.fsencode(folder)) > longest:
        raise UserError(
            f"{name}={folder}: Ray's sockets would have paths of more than {LONGEST_SOCKET} bytes in it; expected a "
            f"folder of at most {longest}: set RAY_TMPDIR=/tmp, or run with --local"
        )


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables of this process, and restore them afterwards."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _own_sigterm_handler() -> Iterator[None]:
    """Keep this process's handler of SIGTERM: as it starts Ray sets its own, by which the process exits at once.

    A signal that Ray's handler has received already is passed on. As it ends Ray takes the handler away without
    Python's knowledge, so that it is set again in any case.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit:
        signal.signal(signal.SIGTERM, before)
        signal.raise_signal(signal.SIGTERM)
        raise
    finally:
        closing = signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
        signal.signal(signal.SIGTERM, signal.SIG_IGN if closing else before)


def leave() -> None:
    """Leave the cluster, which ends all processes of this driver; the handler of SIGTERM stays."""
    with _own_sigterm_handler(), kept_action(signal.SIGTERM):
        ray.shutdown()


def join(address: str, own: OwnCode = NO_OWN_CODE) -> None:
    """Join the cluster at an address, and ship our sources and the user's to its nodes.

    Raises:
        UserError: the cluster cannot be joined.
    """
    variables = _variables() | {plugins.VARIABLE: ""}  # the driver's folders may be other ones there
    environment = {"env_vars": variables, "py_modules": [*sources(), *map(str, own.folders)]}
    check_address(address)
    try:
        with _own_sigterm_handler():
            ray.init(address=address, runtime_env=environment, **QUIET)
    except (OSError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        raise UserError(f"--address {address}: cannot join a Ray cluster: {shortened(str(error), 300)}") from error


def check_address(address: str) -> None:
    """Check that an address is that of a cluster, as far as that can be told without joining it.

    Raises:
        UserError: nothing answers there, or a sweep cannot run through it.
    """
    if address.startswith("ray://"):
        raise UserError(
            f"--address {address}: a sweep cannot run through a Ray client; run it on a cluster node, or submit it "
            "with `ray job submit`"
        )
    try:
        _connect_once(address)
    except OSError as error:
        raise UserError(f"--address {address}: cannot join a Ray cluster: {shortened(str(error), 300)}") from error


def _connect_once(address: str) -> None:
    """Connect to a ``host:port`` once: Ray itself would retry for minutes.

    Raises:
        OSError: the connection failed.
    """
    host, colon, port = address.rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def sources() -> list[str]:
    """Return the folders of our packages, which are shipped to a cluster's nodes."""
    root = Path(__file__).resolve().parents[2]
    return [str(root / package) for package in PACKAGES]
