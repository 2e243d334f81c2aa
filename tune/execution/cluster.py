"""Ray: starting it or joining it, the one Tune run of a search, and tasks. The only rooms with Ray are this one,
`actor.py`, `checks.py` and `searcher.py`.
"""

import logging
import math
import os
import shutil
import socket
import time
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
    TUNE_GLOBAL_CHECKPOINT_S="1000000",  # the studies hold the state; copies of it take up to a twentieth of the time
    RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0",
    RAY_USAGE_STATS_ENABLED="0",
    TUNE_MAX_PENDING_TRIALS_PG="1000000",  # the searcher says when there is no room
)

import ray
import ray.tune

from supersnn.errors import UserError
from supersnn.sources.base import data_root
from tune.description.sweep import ResourcesConfig
from tune.execution.actor import StudentTrial
from tune.execution.executor import PAGES
from tune.execution.nodes import bundle, living, slots, slots_on
from tune.execution.preflight import PACKAGES, NodeMismatch, preflight, require_capacity, run_if_node_matches
from tune.execution.searcher import LOOK, NoUsableNodesStopper, StudyScheduler, StudySearcher
from tune.search.driver import Search
from tune.storage import Storage

ALONE = {
    "RAY_prestart_worker_first_driver": "0",  # processes that come too late for the first trials
    "RAY_enable_metrics_collection": "0",
    "RAY_task_events_report_interval_ms": "0",
}
"""What Ray is to leave where it is started for one sweep: nobody would look at it, and the cores are the trials'."""

QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}

NODE = "ray.io/node-id"
"""The label by which Ray tells nodes apart."""

T = TypeVar("T")
R = TypeVar("R")


class RayExecutor:
    """Runs a sweep's work on Ray: on this machine's cores, or on the cluster at `address`."""

    def __init__(
        self,
        resources: ResourcesConfig,
        max_failures: int,
        scratch: Path,
        run: str,
        storage: Storage,
        witness: str,
        tell: Callable[[str, dict[str, Any]], None],
        address: str | None = None,
    ) -> None:
        """Start Ray, or join it and check its nodes; `scratch` is for Tune's own notes, under a fresh name `run`.

        All work looks for `witness`, a text in the storage, and compares its node with the driver. A node that
        is not fit gets no more, and `tell` hears of it once: the event ``refused`` with `node` and `complaint`.

        Raises:
            UserError: the cluster cannot be joined, a node differs from the driver, or none has what a trial needs.
        """
        self._resources, self._max_failures, self._scratch, self._run = resources, max_failures, scratch, run
        for name in ("ray", "ray.tune", "ray.data", "ray.train"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self.here = address is None
        _start() if address is None else _join(address)
        self._room, self._counted = 0, -math.inf
        self._tell, self._refused = tell, dict[str, str]()
        self._expected: dict[str, Any] | None = None
        try:
            if address is None or resources.trials_at_once is None:
                require_capacity(living(ray.nodes()), resources)
            if address is not None:
                self._expected = vars(preflight(storage, resources, witness))
        except BaseException:
            self.close()
            raise

    def room(self) -> int:
        """Return how many trials may be under way now; what the nodes hold is counted anew every second."""
        if self._resources.trials_at_once is not None:
            return self._resources.trials_at_once
        if time.monotonic() - self._counted >= 1.0:
            fit = (node for node in living(ray.nodes()) if node.id not in self._refused)
            self._room, self._counted = slots(fit, self._resources), time.monotonic()
        return self._room

    def _refuse(self, unfit: NodeMismatch) -> None:
        """Leave a node out from now on."""
        if unfit.node in self._refused:
            return
        self._refused[unfit.node], self._counted = unfit.complaint, -math.inf
        names = {node.id: node.name for node in living(ray.nodes())}
        self._tell("refused", {"node": names.get(unfit.node, unfit.node), "complaint": unfit.complaint})

    def _stranded(self) -> UserError | None:
        """The end of it, where all nodes that could work were refused and nobody starts others."""
        able = [node for node in living(ray.nodes()) if slots_on(node, self._resources)]
        if self._resources.trials_at_once is not None or not able or any(n.id not in self._refused for n in able):
            return None
        told = "; ".join(f"{node.name}: {self._refused[node.id]}" for node in able)
        return UserError(f"no node is left that is fit ({told}); mend them, then give the same command again")

    def _labels(self) -> dict[str, str]:
        """What a node's labels must be, in Ray's terms: the sweep's, and none of the nodes that were refused."""
        out = {NODE: f"!in({','.join(self._refused)})"} if self._refused else {}
        return {**self._resources.labels, **out}

    def _about(self) -> dict[str, Any]:
        return {"labels": self._labels(), "expected": self._expected}

    def search(self, search: Search) -> None:
        """Run the search as one Tune run over all arms; it comes to a halt where no node is fit any more."""
        tuner = ray.tune.Tuner(
            ray.tune.with_resources(StudentTrial, partial(_group, bundle(self._resources))),
            tune_config=ray.tune.TuneConfig(
                search_alg=StudySearcher(search, self.room, self._about),
                scheduler=StudyScheduler(search, self._refuse),
                num_samples=-1,
                reuse_actors=True,
                trial_name_creator=lambda trial: str(trial.config["job"]["key"]).replace("/", "-"),
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=ray.tune.RunConfig(
                name=self._run,
                storage_path=str(self._scratch.resolve()),
                stop=NoUsableNodesStopper(search, self._stranded),
                failure_config=ray.tune.FailureConfig(max_failures=self._max_failures),
                checkpoint_config=ray.tune.CheckpointConfig(checkpoint_at_end=False),  # nodes may not see the path
                verbose=0,
            ),
        )
        tuner.fit()

    def tasks(self, function: Callable[[T], R], items: Sequence[T]) -> Iterator[tuple[T, R | Exception]]:
        """Yield each item with its result or its exception, as the tasks end.

        Raises:
            UserError: no node is fit any more.
        """
        need = self._resources
        options = {
            "num_cpus": need.cpus,
            "num_gpus": need.gpus,
            "memory": need.memory,
            "accelerator_type": need.accelerator,
            "max_retries": self._max_failures,
        }
        given = {name: value for name, value in options.items() if value is not None}

        def start(item: T) -> Any:
            labels = self._labels()
            chosen = given | ({"label_selector": labels} if labels else {})
            if self._expected is None:
                return ray.remote(**chosen)(function).remote(item)
            work = ray.cloudpickle.dumps((function, item))
            return (
                ray.remote(**chosen)(run_if_node_matches).options(name=function.__name__).remote(work, self._expected)
            )

        running = {start(item): item for item in items}
        while running:
            ended, _ = ray.wait(list(running), num_returns=1, timeout=LOOK)
            if not ended:
                if stranded := self._stranded():
                    raise stranded
                continue
            (done,) = ended
            item = running.pop(done)
            try:
                result = ray.get(done)
                if isinstance(result, NodeMismatch):
                    self._refuse(result)
                    running[start(item)] = item
                    continue
                yield item, result
            except ray.exceptions.RayError as error:
                yield item, getattr(error, "cause", None) or error

    def close(self) -> None:
        """Leave Ray; what was started here ends with it."""
        ray.shutdown()
        shutil.rmtree(self._scratch / self._run, ignore_errors=True)


def _group(taken: dict[str, float], config: dict[str, Any]) -> ray.tune.PlacementGroupFactory:
    """What a trial takes, and the labels that its configuration asks of the node."""
    labels = {"bundle_label_selector": [config["labels"]]} if config["labels"] else {}
    return ray.tune.PlacementGroupFactory([taken], **labels)


def _variables() -> dict[str, str]:
    """What every worker needs in its environment."""
    return {"SUPERSNN_DATA": str(data_root().resolve()), "GLIBC_TUNABLES": os.environ.get("GLIBC_TUNABLES", PAGES)}


def _start() -> None:
    """Start Ray on this machine, its processes with our environment, which workers have from them."""
    alone = {name: os.environ.get(name, value) for name, value in ALONE.items()}
    with _environment({**alone, **_variables()}):
        ray.init(address="local", num_cpus=os.cpu_count(), include_dashboard=False, **QUIET)


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set some variables of this process's environment for a while."""
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


def _join(address: str) -> None:
    """Join the cluster at an address, with our sources for its nodes.

    Raises:
        UserError: the cluster cannot be joined.
    """
    if address.startswith("ray://"):
        raise UserError(
            f"--address {address}: the search cannot be driven through a Ray client; give the command on a machine of "
            "the cluster, or hand it in with `ray job submit`"
        )
    environment = {"env_vars": _variables(), "py_modules": sources()}
    try:
        _knock(address)
        ray.init(address=address, runtime_env=environment, **QUIET)
    except (OSError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        text = " ".join(str(error).split())
        raise UserError(f"--address {address}: cannot join a Ray cluster there: {text[:400]}") from error


def _knock(address: str) -> None:
    """Connect to a ``host:port`` once, because Ray itself would try for minutes.

    Raises:
        OSError: nobody listens there.
    """
    host, colon, port = address.rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def sources() -> list[str]:
    """Return our packages' folders, as they are shipped to a cluster's nodes."""
    root = Path(__file__).resolve().parents[2]
    return [str(root / package) for package in PACKAGES]
