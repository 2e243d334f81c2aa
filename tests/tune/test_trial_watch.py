"""Which trials are ended because they report nothing, what they failed of, and what a driver waits for."""

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import ray
import ray.exceptions

from tests.support.sweeps import smallest
from tune.description.sweep import ResourcesConfig
from tune.execution import cluster_state, searcher, trial_watch
from tune.execution.cluster_state import ClusterState
from tune.execution.failures import Failure, SystemFailure
from tune.execution.nodes import Node
from tune.execution.progress import FIRST_EPOCH
from tune.execution.trial_watch import TrialWatch
from tune.notices import ignore
from tune.search.search import Search

STALL = 60.0


class Watched:
    """A search with what a watch asks of it, a cluster of one node, and a clock."""

    settings = smallest(resources={"stall": STALL})

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.slowest: float | None = 1.0
        self.waiting, self.held = "", list[str]()
        self.killed: list[Any] = []
        self.nodes = [Node("a", "node a", {"CPU": 2.0}, {})]
        self.now = 1000.0
        patch.setattr(time, "monotonic", lambda: self.now)
        self.cluster = ClusterState(ResourcesConfig(), None, ignore, lambda: self.nodes)
        search = cast(Search, self)
        self.watch = TrialWatch(search, self.cluster, self._slowest, self.killed.append, lambda actor: f"of {actor}")

    def _slowest(self, key: str) -> float | None:
        return self.slowest if not key.startswith("~") else None

    def waits(self, reason: str) -> None:
        self.waiting = reason

    def later(self, seconds: float) -> None:
        """Let time pass in small steps, as the driver looks often."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + 5.0)
            self.watch.look()

    def start(self, name: str, key: str = "x/0") -> Any:
        trial = SimpleNamespace(
            trial_id=name, config={"key": key}, temporary_state=SimpleNamespace(ray_actor=f"actor {name}")
        )
        trial.pickled_error_file = None
        self.watch.add(trial)
        self.watch.on_trial_start(0, [], trial)
        return trial


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    return Watched(monkeypatch)


def test_a_worker_that_reports_nothing_is_ended_once(watched: Watched) -> None:
    hangs = watched.start("t1")
    watched.start("t2", "x/1")
    watched.start("t3", "~teachers/0")
    watched.watch.heard("t1")
    for _ in range(2):
        watched.later(STALL - 5.0)
        watched.watch.heard("t2")
    assert watched.killed == ["actor t1"]
    watched.later(STALL - 5.0)
    assert watched.killed == ["actor t1"]
    assert hangs.pickled_error_file is None
    watched.watch.failed(hangs)
    failure, node = watched.watch.drop("t1")
    assert (failure.kind, node) == ("stall", "of actor t1")
    assert failure.text.startswith("no report for 6")
    watched.watch.drop("t2")
    watched.later(FIRST_EPOCH * STALL - 250.0)
    assert watched.killed == ["actor t1"]
    watched.later(100.0)
    assert watched.killed == ["actor t1", "actor t3"]  # a teacher without a sign of progress


def test_a_trial_that_gives_signs_is_heard_and_is_no_success(watched: Watched) -> None:
    trial, policy = watched.start("t"), watched.cluster.policy
    policy.failed("x/0", Failure("gpu", "CUDA error"), "a", ["a"])
    work = policy._work["x/0"]
    driver = searcher.DriverWork()
    scheduler = searcher.StudyScheduler(cast(Search, watched), watched.cluster, driver, watch=watched.watch)
    for _ in range(5):
        watched.later(STALL - 5.0)
        assert scheduler.on_trial_result(None, trial, {"waits": True, "node": "a"}) == "CONTINUE"
    assert (watched.killed, driver.error) == ([], None)
    assert (work.stuck, policy._successes) == (1, 0)
    watched.watch.heard("t")
    watched.later(STALL + 5.0)
    assert watched.killed == ["actor t"]


def test_a_process_has_more_time_until_its_first_report_of_a_search(watched: Watched) -> None:
    watched.start("t1")
    watched.later(FIRST_EPOCH * STALL - 5.0)
    assert watched.killed == [], "it may be downloading what its trial needs"
    watched.watch.heard("t1", reported=False)
    watched.later(FIRST_EPOCH * STALL - 5.0)
    assert watched.killed == []
    watched.watch.heard("t1")
    watched.watch.drop("t1")
    watched.start("t2", "x/1").temporary_state.ray_actor = "actor t1"
    watched.watch._watched["t2"].actor = "actor t1"
    watched.later(STALL + 5.0)
    assert watched.killed == ["actor t1"], "it has reported for this search"
    watched.start("t3", "y/0")
    watched.watch._watched["t3"].actor = "actor t1"
    watched.later(FIRST_EPOCH * STALL - 5.0)
    assert watched.killed == ["actor t1"], "another search may need other teachers"


def test_a_deadline_is_ten_of_the_slowest_epochs_and_longer_before_the_first(watched: Watched) -> None:
    watched.slowest = 20.0
    watched.start("t1")
    watched.watch.heard("t1")
    watched.later(195.0)
    assert watched.killed == []
    watched.later(10.0)
    assert watched.killed == ["actor t1"]
    watched.slowest = None
    watched.start("t2")
    watched.later(FIRST_EPOCH * STALL - 5.0)
    assert watched.killed == ["actor t1"]
    watched.later(10.0)
    assert watched.killed == ["actor t1", "actor t2"]


def test_time_in_which_the_driver_was_away_does_not_count(watched: Watched) -> None:
    watched.start("t1")
    watched.watch.heard("t1")
    watched.now += 10_000.0
    watched.watch.look()
    assert watched.killed == []
    watched.later(STALL)
    assert watched.killed == ["actor t1"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("error", "failure", "node"),
    [
        (
            ray.exceptions.RayTaskError("step", "Traceback", SystemFailure("gpu", "CUDA error", "id")),
            Failure("gpu", "CUDA error"),
            "id",
        ),
        (
            ray.exceptions.RayTaskError("step", "Traceback", KeyError("x")),
            Failure("own", "KeyError: 'x'"),
            "of actor t",
        ),
        (
            ray.exceptions.RayActorError(error_msg="The actor died\nits node has died. Node Id: 1"),
            Failure("node", "its node has died. Node Id: 1"),
            "of actor t",
        ),
        (None, Failure("worker", "the worker died"), "of actor t"),
    ],
)
def test_what_a_trial_has_failed_of(
    watched: Watched, tmp_path: Path, error: Exception | None, failure: Failure, node: str
) -> None:
    trial = watched.start("t")
    if error is not None:
        trial.pickled_error_file = tmp_path / "error.pkl"
        trial.pickled_error_file.write_bytes(ray.cloudpickle.dumps(error))
    watched.watch.failed(trial)
    assert watched.watch.drop("t") == (failure, node)
    assert watched.watch.drop("t") == (Failure("worker", "the worker died"), None), "of a trial that is not known"


def test_a_process_that_is_killed_while_it_starts_names_its_node(watched: Watched, tmp_path: Path) -> None:
    watched.watch._node_of = lambda _actor: None
    node = "0c13bc337443a70b36546639c98d871985925fc578b6f21f43af41ea"
    text = "OutOfMemoryError: 1 worker(s) were killed due to the node running low on memory.\n"
    text += f"Memory on the node (IP: 192.0.2.2, ID: {node}) was 2.7GB used / 23.5GB."
    trial = watched.start("t")
    trial.pickled_error_file = tmp_path / "error.pkl"
    trial.pickled_error_file.write_bytes(ray.cloudpickle.dumps(ray.exceptions.RayActorError(error_msg=text)))
    watched.watch.failed(trial)
    failure, found = watched.watch.drop("t")
    assert (failure.kind, found) == ("memory", node)


def test_a_driver_says_what_it_waits_for(watched: Watched) -> None:
    nodes, watched.nodes = watched.nodes, []
    watched.later(5.0)
    assert watched.waiting == "a node: none of 0 living ones holds a trial"
    watched.nodes = nodes
    watched.later(5.0)
    assert watched.waiting == ""
    watched.held = ["x/0"]
    watched.later(5.0)
    assert watched.waiting == "the next attempt of x/0"
    watched.held = []
    trial = SimpleNamespace(trial_id="t", config={"key": "x/0"}, temporary_state=SimpleNamespace(ray_actor=None))
    watched.watch.add(trial)
    watched.later(cluster_state.PENDING + 5.0)
    assert watched.waiting == "a node that is free, or a process that is starting on one"
    trial.temporary_state.ray_actor = "actor"
    watched.later(5.0)
    assert watched.waiting == ""
    watched.later(FIRST_EPOCH * STALL + 5.0)
    assert watched.killed == ["actor"], "an actor that does not take up its next trial"


class Controller:
    """What a watch sees of Tune: the processes of trials, those that have resources and may be starting among them."""

    def __init__(self) -> None:
        self._tune_controller = self._actor_manager = self
        self._trial_to_actor: dict[Any, str] = {}
        self._live_actors_to_ray_actors_resources: dict[str, Any] = {}

    def get_live_trials(self) -> list[Any]:
        return []


class Waiting:
    """A trial without a process."""

    trial_id, config, pickled_error_file = "t", {"key": "x/0"}, None
    temporary_state = SimpleNamespace(ray_actor=None)


def test_a_process_that_does_not_start_is_ended_once_it_had_its_resources_for_long(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial_watch, "node_of_group", lambda group: f"node of {group}")
    controller, search = Controller(), cast(Search, watched)
    scheduler = searcher.StudyScheduler(search, watched.cluster, searcher.DriverWork(), watch=watched.watch)
    trial = Waiting()
    watched.watch.add(trial)
    scheduler.choose_trial_to_run(controller)
    watched.later(3 * FIRST_EPOCH * STALL)
    assert watched.killed == [], "it waits for resources"
    controller._trial_to_actor[trial] = "tracked"
    controller._live_actors_to_ray_actors_resources["tracked"] = ("actor", SimpleNamespace(placement_group="group"))
    watched.later(FIRST_EPOCH * STALL - 5.0)
    assert watched.killed == []
    watched.later(15.0)
    assert watched.killed == ["actor"]
    watched.watch.failed(trial)
    failure, node = watched.watch.drop("t")
    assert (failure.kind, node) == ("stall", "node of group")
    assert failure.text.startswith("a process has not started for 72")
