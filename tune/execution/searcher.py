"""Ray Tune's hooks into our search: searcher (the next trial), scheduler (stop or continue), stopper (end the run)."""

import json
import time
from typing import Any, Self
from weakref import WeakKeyDictionary

from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.tune.stopper import Stopper

from tune.description.searches import PlannedSearch
from tune.execution.cluster_state import ClusterState, admit_none
from tune.execution.failed_teachers import TeacherFailures
from tune.execution.failures import Failure
from tune.execution.node_check import NodeMismatch
from tune.execution.preparations import Preparation, PreparationFailed, Preparations, Prepared
from tune.execution.trial_failures import TrialFailures
from tune.execution.trial_watch import TrialWatch
from tune.execution.tune_actors import kept_processes
from tune.search.messages import Report
from tune.search.search import Search

CHECK_EVERY = 5.0
"""Seconds between two checks for usable nodes; Ray takes a few to find that a node is lost."""


class _NotSaved:
    """Base of the hooks, of which Tune saves copies: they are empty, because the studies hold the state."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class DriverWork:
    """What Tune's hooks do for the driver. Its first exception is kept: Tune would take it for the trial's.

    After one the hooks do nothing any more, and the run ends; what is under way stays interrupted in the studies.
    """

    def __init__(self) -> None:
        self.error: Exception | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> bool:
        if isinstance(error, Exception):
            self.error = self.error or error
            return True
        return False


def _teacher_failures(search: Search, cluster: ClusterState, preparations: Preparations) -> TeacherFailures:
    return TeacherFailures(search, preparations, cluster.policy, cluster.able_nodes)


class StudySearcher(_NotSaved, Searcher):
    """Suggests the search's jobs to Tune, up to the cluster's capacity, and the preparations that they wait for.

    A preparation takes a trial's place. Results go through `StudyScheduler`, which sees every one of them.
    """

    def __init__(
        self,
        search: Search,
        cluster: ClusterState,
        driver: DriverWork,
        preparations: Preparations | None = None,
        watch: TrialWatch | None = None,
    ) -> None:
        super().__init__()
        self._search, self._cluster, self._driver, self._preparations = search, cluster, driver, preparations
        self._watch = watch or TrialWatch(search, cluster)
        self._failures = TrialFailures(search, cluster.policy, cluster.able_nodes)
        self._keys: dict[str, str] = {}
        self._wanted: Preparation | None = None

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return a trial's configuration: its job, the labels of its node and what that is compared with.

        None for not yet: the cluster is full, or there is no job now, but one under way may be requeued.
        """
        with self._driver:
            if self._driver.error is None:
                return self._suggest(trial_id)
        return Searcher.FINISHED

    def _suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        self._search.poll()
        self._watch.look()
        if not self._keys and (error := self._cluster.no_usable_nodes()):
            self._search.halt(error)  # without a trial Tune waits here for minutes, and does not call the stopper
        elif len(self._keys) >= self._cluster.capacity():
            return None
        job = self._search.next_job(self._ready)
        place = {
            "requirements": self._cluster.requirements,
            "device": self._cluster.device,
            "gpus": self._cluster.gpus,
            "keeper": self._cluster.keeper,
        }
        if job is not None:
            self._keys[trial_id] = job.key
            labels = self._cluster.label_selector(self._cluster.policy.avoided(job.key))
            return {"key": job.key, "job": vars(job), "labels": labels, **place}
        if self._preparations is not None and self._wanted is not None:
            item, self._wanted = self._wanted, None
            self._keys[trial_id] = key = self._preparations.start(item)
            labels = self._cluster.label_selector(self._cluster.policy.avoided(item.name))
            return {"key": key, "preparation": item.task(), "labels": labels, **place}
        return None if self._keys or self._held() else Searcher.FINISHED

    def _held(self) -> bool:
        """Return whether something is to be tried again, and not yet."""
        held = self._search.held or (self._preparations is not None and self._preparations.held)
        return bool(held) and not self._search.over

    def _ready(self, search: PlannedSearch) -> bool:
        """Whether a trial of a search can start now. Where it lacks a teacher, that is the next to be prepared."""
        if self._preparations is None or self._wanted is not None:
            return self._wanted is None
        missing = self._preparations.missing(search.name)
        able = (item for item in missing if self._preparations.may_start(item))
        self._wanted = next((item for item in able if not self._preparations.wait(item)), None)
        return not missing

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Do nothing: the scheduler has taken the result."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Take the failure of a trial whose worker failed; one that finished or was stopped is closed already."""
        del result
        key = self._keys.pop(trial_id)
        failure, node = self._watch.drop(trial_id)
        with self._driver:
            if self._driver.error is not None or not error:
                return
            if self._preparations is not None and self._preparations.has(key):
                self._preparation_failed(self._preparations, key, failure, node)
            else:
                self._failures.failed(key, failure, node)

    def _preparation_failed(self, preparations: Preparations, key: str, failure: Failure, node: str | None) -> None:
        """Prepare a teacher again, elsewhere, whose worker failed; nothing where it has ended."""
        _teacher_failures(self._search, self._cluster, preparations).failed(key, failure, node)

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the studies are on disk."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: a restarted sweep begins a new run over the same studies."""

    def set_search_properties(self, *_args: Any, **_spec: Any) -> bool:
        """Refuse Tune's own metric and space: the studies have them."""
        return False


class StudyScheduler(_NotSaved, FIFOScheduler):
    """Passes each report to the search, and stops the trial where the search decides so.

    A trial whose node does not match the driver is requeued, and the node excluded. What has failed is told to the
    watch here, where Tune still knows it.
    """

    def __init__(
        self,
        search: Search,
        cluster: ClusterState,
        driver: DriverWork,
        preparations: Preparations | None = None,
        watch: TrialWatch | None = None,
    ) -> None:
        super().__init__()
        self._search, self._cluster, self._driver, self._preparations = search, cluster, driver, preparations
        self._watch = watch or TrialWatch(search, cluster)
        self._failures = TrialFailures(search, cluster.policy, cluster.able_nodes)
        self._checked = time.monotonic()
        self._nodes: WeakKeyDictionary[Any, str] = WeakKeyDictionary()

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Watch a trial that waits for a node, for the first time or again."""
        super().on_trial_add(tune_controller, trial)
        self._watch.add(trial)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Note what a trial's worker has failed of."""
        super().on_trial_error(tune_controller, trial)
        self._watch.failed(trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Return the scheduler decision: continue or stop."""
        del tune_controller
        self._note_node(trial, result)
        with self._driver:
            if self._driver.error is None:
                return self._decide(trial, result)
        return TrialScheduler.STOP

    def _note_node(self, trial: Any, result: dict[str, Any]) -> None:
        """Note the node of a trial's process, which Tune may keep when the trial ends."""
        controller = self._watch.controller
        process = None if controller is None else controller._trial_to_actor.get(trial)
        if process is not None and "node" in result:
            self._nodes[process] = result["node"]

    def choose_trial_to_run(self, tune_controller: Any) -> None:
        """Choose none: Tune starts every trial that waits, in order.

        One that is chosen would get the first process that comes free elsewhere, and the one that is still starting for
        it would be removed: a node that joins would never work where trials take less time than a process's start.

        A process that is kept for a next trial is ended where the cluster has no room for one: others wait for it. So
        it is on a node that gets no more work, which Tune does not know.
        """
        controller = self._watch.controller = tune_controller._tune_controller
        with self._driver:
            if self._driver.error is None and time.monotonic() - self._checked >= CHECK_EVERY:
                self._checked = time.monotonic()
                self._relabel(controller)
        trials = [trial for trial in controller.get_live_trials() if not trial.is_finished()]  # it keeps failed ones
        full = len(trials) >= self._cluster.capacity() and all(trial in controller._trial_to_actor for trial in trials)
        closed = self._cluster.closed_nodes()
        if full or (closed and any(self._nodes.get(process) in closed for process in kept_processes(controller))):
            controller._cleanup_cached_actors(force_all=True)

    def _relabel(self, controller: Any) -> None:
        """Requeue the trials that wait for nodes of which none is left: they keep the labels that they began with."""
        nodes = self._cluster.open_nodes()
        for trial in list(controller.get_live_trials()):
            if trial.status != "PENDING" or not admit_none(trial.config["labels"], nodes):
                continue
            actor = controller._trial_to_actor.get(trial)
            if actor is None or controller._actor_manager.is_actor_started(actor):
                continue  # Tune has not asked for its place yet, or it has one, where its process is starting
            self._requeue(trial.config["key"])
            if trial in controller._staged_trials:  # Tune itself stops none that waits for an actor
                controller._unstage_trial_with_resources(trial)
            controller.stop_trial(trial)

    def _requeue(self, key: str) -> None:
        if self._preparations is not None and self._preparations.has(key):
            self._preparations.requeue(key)
        else:
            self._search.requeue(key)

    def _decide(self, trial: Any, result: dict[str, Any]) -> str:
        key = trial.config["key"]
        self._watch.heard(trial.trial_id, reported="waits" not in result)
        if "node_mismatch" in result:
            self._cluster.exclude(NodeMismatch(**json.loads(result["node_mismatch"])))
            self._requeue(key)
            return TrialScheduler.STOP
        if "waits" in result:  # it lives, but has brought nothing: no success for the retry policy
            return TrialScheduler.CONTINUE
        if "failure" in result and result["stale"]:
            from tune.execution.trial import StaleDriverError

            raise StaleDriverError(result["failure"])
        if self._preparations is not None and self._preparations.has(key):
            return self._decide_on_teacher(self._preparations, key, result)
        if "failure" in result:
            self._failures.failed(key, Failure("own", result["failure"]), result["node"])
            return TrialScheduler.STOP
        self._failures.reported(key, result["node"], result.get("gpus"))
        report = Report(**json.loads(result["report"]))
        stop = self._search.reported(key, report) or self._failures.slow(key, result["node"], report)
        return TrialScheduler.STOP if stop else TrialScheduler.CONTINUE

    def _decide_on_teacher(self, preparations: Preparations, key: str, result: dict[str, Any]) -> str:
        node, gpus = result["node"], result.get("gpus")
        failures = _teacher_failures(self._search, self._cluster, preparations)
        if "advanced" in result:
            failures.advanced(key, result["advanced"], node, gpus)
            return TrialScheduler.CONTINUE
        if "prepared" in result:
            failures.prepared(key, Prepared.from_text(result["prepared"]), node, gpus)
        elif "failure" in result:
            failures.failed(key, Failure("own", result["failure"]), node)
        else:
            failed = PreparationFailed(**json.loads(result["failed"]))
            if failed.by_user:
                preparations.ended(key, failed)
            else:
                failures.failed(key, Failure("own", failed.text), node, failed.trace)
        return TrialScheduler.STOP


class SearchStopper(_NotSaved, Stopper):
    """Ends the run where the driver's work has failed, or no usable nodes are left: pending trials would block it."""

    def __init__(
        self, search: Search, cluster: ClusterState, driver: DriverWork, watch: TrialWatch | None = None
    ) -> None:
        self._search, self._cluster, self._driver = search, cluster, driver
        self._watch = watch or TrialWatch(search, cluster)
        self._checked = time.monotonic()

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Stop no single trial: the scheduler decides on it."""
        del trial_id, result
        return False

    def stop_all(self) -> bool:
        """Return whether the run ends now; running trials have been requeued then."""
        with self._driver:
            if self._driver.error is None:
                self._search.poll()
                self._watch.look()
        if self._search.over:
            return True
        if self._driver.error is None and time.monotonic() - self._checked >= CHECK_EVERY:
            self._checked = time.monotonic()
            with self._driver:
                if (error := self._cluster.no_usable_nodes()) is not None:
                    self._search.halt(error)
                    return True
        return self._driver.error is not None
