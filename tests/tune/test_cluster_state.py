"""Free slots and excluded nodes of a cluster, and what the hooks of Ray Tune make of them, without a cluster."""

import json
import sqlite3
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
import ray
from ray.tune.search import Searcher

from supersnn.errors import UserError
from tests.support.sweeps import smallest
from tune.description.sweep import ResourcesConfig
from tune.execution import keeper, searcher
from tune.execution.cluster_state import IN_VAIN, NODE_ID, ClusterState, admit_none
from tune.execution.node_check import NodeMismatch, NodeRequirements
from tune.execution.nodes import Node
from tune.execution.share import Claim, Occupancy
from tune.execution.trial_watch import TrialWatch
from tune.notices import NodeExcluded, Notice
from tune.search.messages import Job, Report
from tune.search.search import Search

REQUIREMENTS = NodeRequirements({"torch": "2.14.1"}, "digest", 0.0, "/store", "owner")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that the cluster's state and the hooks read, in seconds."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


class Cluster:
    """Nodes that a test changes, and the notices of their state."""

    def __init__(self, *names: str, **resources: Any) -> None:
        self.nodes = [Node(name, f"{name} (10.0.0.1)", {"CPU": 2.0}, {}) for name in names]
        self.notices: list[Notice] = []
        self.counted = 0
        self.state = ClusterState(ResourcesConfig(**resources), REQUIREMENTS, self.notices.append, self._list)

    def _list(self) -> list[Node]:
        self.counted += 1
        return self.nodes


class Shared(Cluster):
    """Nodes that other jobs use as well: their claims, and what Ray reports as free."""

    def __init__(self, *names: str, **resources: Any) -> None:
        self.claims: list[Claim] = []
        super().__init__(*names, **resources)
        needs = ResourcesConfig(**resources)
        self.state = ClusterState(needs, REQUIREMENTS, self.notices.append, self._list, occupied=self._occupied)

    def _occupied(self) -> Occupancy:
        return Occupancy("me", {node.id: {"CPU": 99.0} for node in self.nodes}, self.claims)

    def hold(self, job: str, node: str | None) -> None:
        self.claims.append(Claim(job, {"CPU": 1.0}, node))


class FakeSearch:
    """A search with some jobs, which keeps what is called."""

    settings = smallest()
    over = False
    held = ()
    slowest: float | None = None

    def __init__(self, *keys: str) -> None:
        self.jobs = [Job(key, {}, (0,), f"s/trials/{key}", "s", "/store", "token") for key in keys]
        self.calls: list[tuple[Any, ...]] = []

    def poll(self) -> None:
        pass

    def next_job(self, _ready: object) -> Job | None:
        return self.jobs.pop(0) if self.jobs else None

    def reported(self, key: str, report: Report) -> bool:
        self.calls.append(("reported", key, report))
        return report.ended is not None

    def requeue(self, key: str, set_back: bool = False, wait: float = 0.0) -> None:
        assert wait == 0, "nothing has succeeded"
        self.calls.append(("requeue last" if set_back else "requeue", key))
        self.jobs.append(Job(key, {}, (0,), f"s/trials/{key}", "s", "/store", "token"))

    def is_running(self, key: str) -> bool:
        return key not in [job.key for job in self.jobs]

    def attempt_failed(self, key: str, number: int, kind: str, reason: str, node: str | None) -> None:
        self.calls.append(("attempt", key, number, kind, reason, node))

    def ended(self, key: str, end: str, _node: str | None = None) -> None:
        self.calls.append(("ended", key, end))

    def waits(self, reason: str) -> None:
        if reason:
            self.calls.append(("waits", reason))

    def slowest_epoch(self, key: str) -> float | None:
        return self.slowest if key else None

    def halt(self, reason: UserError) -> None:
        self.calls.append(("halt", str(reason)))
        self.jobs.clear()


def as_search(fake: FakeSearch) -> Search:
    return cast(Search, fake)


def test_capacity_is_counted_at_most_once_a_second(clock: list[float]) -> None:
    cluster = Cluster("a")
    assert cluster.state.capacity() == 2
    cluster.nodes += Cluster("b").nodes
    clock[0] += 0.5
    assert cluster.state.capacity() == 2
    assert cluster.counted == 1
    clock[0] += 0.5
    assert cluster.state.capacity() == 4


def test_capacity_is_what_is_free_and_what_the_sweep_holds(clock: list[float]) -> None:
    cluster = Shared("a", "b")
    assert cluster.state.capacity() == 4
    cluster.hold("other", "a")
    cluster.hold("me", "a")
    assert cluster.state.capacity() == 4
    clock[0] += 1.0
    assert cluster.state.capacity() == 3
    cluster.state.exclude(NodeMismatch("b", "other torch"))
    assert cluster.state.capacity() == 1


@pytest.mark.parametrize("at_once", [None, 8])
def test_a_slot_is_given_up_to_a_job_that_waits_unless_it_waits_for_something_else(
    at_once: int | None, clock: list[float]
) -> None:
    cluster = Shared("a", "b", trials_at_once=at_once)
    for node in ("a", "a", "b", "b"):
        cluster.hold("me", node)
    cluster.hold("other", None)
    assert cluster.state.capacity() == 3
    del cluster.claims[0]  # it is free now, and the other one does not take it
    clock[0] += 1.0
    assert cluster.state.capacity() == 2
    clock[0] += IN_VAIN
    assert cluster.state.capacity() == at_once or 4


def test_tasks_take_a_whole_process_where_trials_are_packed() -> None:
    cluster = Cluster("a", pack=4, gpus=0)
    assert (cluster.state.capacity(), cluster.state.capacity(whole=True)) == (8, 2)
    assert cluster.state.bundle() == {"CPU": 1.0}


def test_work_that_takes_less_than_a_trial_names_its_nodes() -> None:
    cluster = Cluster("a", "b")
    cluster.nodes.append(Node("head", "head (10.0.0.9)", {"CPU": 0.0}, {}))
    assert cluster.state.label_selector(among_able=True) == {NODE_ID: "in(a,b)"}
    assert cluster.state.label_selector({"a"}, among_able=True) == {NODE_ID: "in(b)"}
    assert cluster.state.label_selector({"a", "b"}, among_able=True) == {NODE_ID: "in(a,b)"}


class TuneTrial:
    """A trial as Tune has it."""

    def __init__(self, number: int, status: str, labels: dict[str, str]) -> None:
        self.trial_id, self.status = f"t{number}", status
        self.config = {"key": f"x/{number}", "labels": labels}

    def is_finished(self) -> bool:
        return self.status in ("ERROR", "TERMINATED")


class Controller:
    """What a scheduler sees of Tune: trials, those that have a process, and whether idle processes were ended."""

    def __init__(self, live: int, started: int, failed: int = 0, labels: dict[str, str] | None = None) -> None:
        self._tune_controller = self._actor_manager = self
        statuses = ["RUNNING"] * started + ["PENDING"] * (live - started) + ["ERROR"] * failed
        self.trials = [TuneTrial(number, status, labels or {}) for number, status in enumerate(statuses)]
        self._trial_to_actor = {trial: f"actor {trial.trial_id}" for trial in self.trials[:started]}
        self._staged_trials = set(self.trials[started:live])
        self.kept = list[str]()
        self._actor_cache = SimpleNamespace(_cached_objects={"slot": self.kept})
        self.ended, self.stopped, self.starting = list[bool](), list[str](), set[str]()

    def get_live_trials(self) -> list[TuneTrial]:
        return self.trials

    def is_actor_started(self, actor: str) -> bool:
        return actor in self.starting or actor in list(self._trial_to_actor.values())[:1]

    def _unstage_trial_with_resources(self, trial: TuneTrial) -> None:
        self._staged_trials.remove(trial)

    def stop_trial(self, trial: TuneTrial) -> None:
        self.trials.remove(trial)
        self.stopped.append(trial.trial_id)

    def _cleanup_cached_actors(self, force_all: bool) -> None:
        self.ended.append(force_all)
        self.kept.clear()


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("failed", [0, 1])
@pytest.mark.parametrize(("live", "started", "ended"), [(2, 2, [True]), (2, 1, []), (1, 1, [])])
def test_tune_keeps_processes_that_start_and_ends_idle_ones_where_there_is_no_room(
    live: int, started: int, ended: list[bool], failed: int
) -> None:
    scheduler = searcher.StudyScheduler(as_search(FakeSearch()), Cluster("a").state, searcher.DriverWork())
    controller = Controller(live, started, failed)
    scheduler.choose_trial_to_run(controller)
    assert controller.ended == ended, "trials that have failed stay in Tune's list, and hold nothing"


class Process:
    """What Tune has of a process."""


def test_a_process_on_a_drained_node_gets_no_further_trial(clock: list[float]) -> None:
    cluster, search = Cluster("a", "b"), FakeSearch()
    watch = TrialWatch(as_search(search), cluster.state)
    scheduler = searcher.StudyScheduler(as_search(search), cluster.state, searcher.DriverWork(), watch=watch)
    controller = Controller(2, 2)
    on_a, on_b = Process(), Process()
    controller._trial_to_actor = cast(Any, dict(zip(controller.trials, (on_a, on_b), strict=True)))
    scheduler.choose_trial_to_run(controller)
    for trial, node in zip(list(controller.trials), "ab", strict=True):
        report = json.dumps(vars(Report(1, {"val/accuracy": 0.5}, "finished")))
        scheduler.on_trial_result(controller, trial, {"report": report, "node": node})
        controller.trials.remove(trial)
    controller.kept += cast(list[str], [on_a])
    scheduler.choose_trial_to_run(controller)
    assert controller.ended == [], "there is room for another trial"
    cluster.nodes[0] = replace(cluster.nodes[0], draining=True)
    clock[0] += 1.0
    assert cluster.state.capacity() == 2
    assert cluster.state.label_selector() == {NODE_ID: "!in(a)"}
    assert cluster.state.open_nodes() == {"b": "b (10.0.0.1)"}
    scheduler.choose_trial_to_run(controller)
    assert controller.ended == [True]
    controller.kept += cast(list[str], [on_b])
    scheduler.choose_trial_to_run(controller)
    assert controller.ended == [True], "the other node is open"
    cluster.nodes.pop()
    assert cluster.state.waits_for(0.0) == "a node: left out are a (10.0.0.1) (it is drained)"


class Keepers:
    """Ray's side of keepers: those that were started, ended, and told."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.calls = list[tuple[Any, ...]]()
        patch.setattr(keeper, "start_keeper", self._start)
        patch.setattr(ray, "kill", lambda actor: self.calls.append(("end", actor.pack)))

    def _start(self, pack: int | str, device: str, stall: float) -> Any:
        self.calls.append(("start", pack, device, stall))
        return SimpleNamespace(
            pack=pack, tune=SimpleNamespace(remote=lambda stall: self.calls.append(("tune", pack, stall)))
        )


def test_changed_resources_hold_for_device_requirements_and_packs(
    clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster, keepers = Cluster("a", gpus=0), Keepers(monkeypatch)
    state = cluster.state
    for gpus, device in ((1, "cuda"), (0.25, "cuda"), (0, "cpu")):
        state.adopt(ResourcesConfig(gpus=gpus))
        assert (state.device, state.gpus) == (device, gpus)
        assert state.requirements is not None
        assert state.requirements["gpus"] == gpus
    state.start_keeper()
    assert (state.keeper, keepers.calls) == (None, []), "trials are not packed"
    for resources in ({"gpus": 0, "pack": 4}, {"gpus": 0, "pack": 8}, {"gpus": 1, "pack": 8}, {"gpus": 1, "pack": 1}):
        state.adopt(ResourcesConfig(**resources))
        state.start_keeper()
        state.start_keeper()
    assert keepers.calls == [
        ("start", 4, "cpu", 600.0),
        ("end", 4),
        ("start", 8, "cpu", 600.0),
        ("end", 8),
        ("start", 8, "cuda", 600.0),
        ("end", 8),
    ]
    assert state.keeper is None
    del clock


def test_packs_are_told_a_changed_stall_at_once_and_again_now_and_then(
    clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster, keepers = Cluster("a", gpus=0, pack=4), Keepers(monkeypatch)
    cluster.state.tune(600.0)
    cluster.state.start_keeper()
    assert keepers.calls.pop() == ("start", 4, "cpu", 600.0)
    cluster.state.tune(600.0)
    assert keepers.calls == []
    for _ in range(2):
        cluster.state.tune(3600.0)
    assert (cluster.state.stall, keepers.calls) == (3600.0, [("tune", 4, 3600.0)])
    clock[0] += keeper.TELL_EVERY
    cluster.state.tune(3600.0)
    assert keepers.calls[1:] == [("tune", 4, 3600.0)], "Ray may have started it again"
    cluster.state.adopt(ResourcesConfig(gpus=0, pack=4, cpus=2, stall=60.0))
    assert keepers.calls[2:] == [("tune", 4, 60.0)], "the keeper is the same"


@pytest.mark.usefixtures("clock")
def test_nodes_that_the_preflight_found_unusable_get_no_work() -> None:
    cluster = Cluster("a", "b", "c")
    cluster.state.leave_out({"a": "GPU 1 computes wrong results"}, {"b": "other torch"})
    assert cluster.state.open_nodes() == {"c": "c (10.0.0.1)"}
    assert cluster.notices == [
        NodeExcluded("b (10.0.0.1)", "other torch"),
        NodeExcluded("a (10.0.0.1)", "GPU 1 computes wrong results; it is looked at again later"),
    ]
    breaker = cluster.state.policy.breaker
    assert breaker.left_out == {"a": "GPU 1 computes wrong results"}, "it is looked at again; the other one is not"
    breaker.readmit("a")
    assert list(cluster.state.open_nodes()) == ["a", "c"]


def test_a_trial_that_waits_for_a_lost_node_gets_other_labels(clock: list[float]) -> None:
    cluster, search = Cluster("a", "b"), FakeSearch()
    cluster.state.policy.breaker.leave_out("a", "slow", ["a", "b"])
    controller = Controller(4, 1, labels=cluster.state.label_selector())
    assert controller.trials[0].config["labels"] == {NODE_ID: "!in(a)"}
    for number in (1, 2):
        controller._trial_to_actor[controller.trials[number]] = f"actor t{number}"
    controller.starting = {"actor t1"}
    scheduler = searcher.StudyScheduler(as_search(search), cluster.state, searcher.DriverWork())
    clock[0] += searcher.CHECK_EVERY
    scheduler.choose_trial_to_run(controller)
    assert search.calls == [], "node b may take it"
    cluster.nodes = cluster.nodes[:1]
    clock[0] += searcher.CHECK_EVERY
    scheduler.choose_trial_to_run(controller)
    assert search.calls == [], "there is no other node"
    cluster.state.policy.breaker.readmit("a")
    scheduler.choose_trial_to_run(controller)
    assert search.calls == [], "it is looked at every few seconds"
    clock[0] += searcher.CHECK_EVERY
    scheduler.choose_trial_to_run(controller)
    assert search.calls == [("requeue", "x/2")], "the first runs, the second has a process that is starting"
    assert controller.stopped == ["t2"]
    assert {trial.trial_id for trial in controller._staged_trials} == {"t1", "t3"}, "t3 has not been placed at all yet"
    assert cluster.state.label_selector() == {}


def test_labels_admit_nodes_by_their_ids() -> None:
    for labels, none in (
        ({}, False),
        ({"disk": "ssd"}, False),
        ({NODE_ID: "!in(a)"}, False),
        ({NODE_ID: "!in(a,b,c)"}, True),
        ({NODE_ID: "in(b,c)"}, False),
        ({NODE_ID: "in(c)"}, True),
    ):
        assert admit_none(labels, ["a", "b"]) == none
    assert not admit_none({NODE_ID: "!in(a)"}, []), "without any node it waits for one"


def test_capacity_is_trials_at_once_where_that_is_set() -> None:
    assert Cluster("a", trials_at_once=7).state.capacity() == 7


@pytest.mark.usefixtures("clock")
def test_an_excluded_node_is_notified_once_and_counts_no_more() -> None:
    cluster = Cluster("a", "b", labels={})
    assert cluster.state.label_selector() == {}
    assert cluster.state.capacity() == 4
    for reason in ("other torch", "again"):
        cluster.state.exclude(NodeMismatch("a", reason))
    assert cluster.notices == [NodeExcluded("a (10.0.0.1)", "other torch")]
    assert cluster.state.capacity() == 2
    assert cluster.state.label_selector() == {NODE_ID: "!in(a)"}
    cluster.state.exclude(NodeMismatch("gone", "other torch"))
    assert cluster.notices[1] == NodeExcluded("gone", "other torch")
    assert cluster.state.label_selector() == {NODE_ID: "!in(a,gone)"}


def test_the_label_selector_keeps_the_labels_of_the_sweep() -> None:
    cluster = Cluster("a", labels={"disk": "ssd"})
    cluster.state.exclude(NodeMismatch("a", "other torch"))
    assert cluster.state.label_selector() == {"disk": "ssd", NODE_ID: "!in(a)"}


def test_no_usable_nodes_names_every_node_and_its_reason() -> None:
    cluster = Cluster("a", "b")
    cluster.nodes.append(Node("small", "small (10.0.0.1)", {"CPU": 0.5}, {}))
    cluster.state.exclude(NodeMismatch("a", "other torch"))
    assert cluster.state.no_usable_nodes() is None
    cluster.state.exclude(NodeMismatch("b", "no store"))
    assert str(cluster.state.no_usable_nodes()) == (
        "no usable nodes left (a (10.0.0.1): other torch; b (10.0.0.1): no store); fix them and rerun the same command"
    )


def test_no_usable_nodes_waits_for_an_autoscaler_and_for_a_first_node() -> None:
    scaled = Cluster("a", trials_at_once=2)
    scaled.state.exclude(NodeMismatch("a", "other torch"))
    assert scaled.state.no_usable_nodes() is None
    assert Cluster().state.no_usable_nodes() is None


def test_the_searcher_suggests_up_to_the_capacity() -> None:
    cluster = Cluster("a")
    suggested = searcher.StudySearcher(as_search(FakeSearch("x/0", "x/1", "x/2")), cluster.state, searcher.DriverWork())
    configs = [suggested.suggest(name) for name in ("one", "two", "three")]
    assert [config["job"]["key"] for config in configs if isinstance(config, dict)] == ["x/0", "x/1"]
    assert isinstance(configs[0], dict)
    assert configs[0]["labels"] == {}
    assert NodeRequirements(**configs[0]["requirements"]) == REQUIREMENTS
    assert configs[2] is None


def test_the_searcher_halts_the_search_where_no_trial_can_run() -> None:
    cluster, search = Cluster("a"), FakeSearch("x/0", "x/1")
    suggested = searcher.StudySearcher(as_search(search), cluster.state, searcher.DriverWork())
    assert isinstance(suggested.suggest("one"), dict)
    cluster.state.exclude(NodeMismatch("a", "other torch"))
    assert suggested.suggest("two") is None
    assert search.calls == []
    suggested.on_trial_complete("one")
    assert suggested.suggest("two") == Searcher.FINISHED
    assert [call[0] for call in search.calls] == ["halt"]


def test_the_scheduler_requeues_a_trial_whose_node_differs() -> None:
    cluster, search = Cluster("a", "b"), FakeSearch()
    scheduler = searcher.StudyScheduler(as_search(search), cluster.state, searcher.DriverWork())
    trial = SimpleNamespace(trial_id="t", config={"key": "x/0"})
    mismatch = json.dumps(vars(NodeMismatch("a", "other torch")))
    assert scheduler.on_trial_result(None, trial, {"node_mismatch": mismatch}) == "STOP"
    assert search.calls == [("requeue", "x/0")]
    search.jobs.clear()
    assert [notice.node for notice in cluster.notices if isinstance(notice, NodeExcluded)] == ["a (10.0.0.1)"]
    for ended, decision in ((None, "CONTINUE"), ("finished", "STOP")):
        report = Report(1, {"val/accuracy": 0.5}, ended)
        assert scheduler.on_trial_result(None, trial, {"report": json.dumps(vars(report)), "node": "b"}) == decision
        assert search.calls[-1] == ("reported", "x/0", report)


def test_the_stopper_ends_the_run_and_checks_every_few_seconds(clock: list[float]) -> None:
    cluster, search = Cluster("a"), FakeSearch()
    stopper = searcher.SearchStopper(as_search(search), cluster.state, searcher.DriverWork())
    checked = []
    for clock[0] in (101.0, 106.0):
        checked.append(stopper.stop_all())
    cluster.state.exclude(NodeMismatch("a", "other torch"))
    for clock[0] in (107.0, 112.0):
        checked.append(stopper.stop_all())
    assert checked == [False, False, False, True]
    assert [call[0] for call in search.calls] == ["halt"]
    assert "other torch" in search.calls[0][1]


class BrokenDatabase(FakeSearch):
    """A search whose bookkeeping fails."""

    def reported(self, key: str, report: Report) -> bool:
        raise sqlite3.OperationalError(f"database is locked: {key}, epoch {report.epoch}")


def test_what_the_driver_raises_in_a_hook_ends_the_run_and_is_no_failure_of_the_trial() -> None:
    cluster, search, driver = Cluster("a"), BrokenDatabase("x/0", "x/1"), searcher.DriverWork()
    hooks = as_search(search), cluster.state, driver
    suggested, scheduler, stopper = (
        hook(*hooks) for hook in (searcher.StudySearcher, searcher.StudyScheduler, searcher.SearchStopper)
    )
    assert isinstance(suggested, searcher.StudySearcher)
    assert isinstance(scheduler, searcher.StudyScheduler)
    assert isinstance(stopper, searcher.SearchStopper)
    assert isinstance(suggested.suggest("one"), dict)
    trial = SimpleNamespace(trial_id="t", config={"key": "x/0"})
    report = json.dumps(vars(Report(1, {"val/accuracy": 0.5}, None)))
    assert scheduler.on_trial_result(None, trial, {"report": report, "node": "a"}) == "STOP"
    assert str(driver.error) == "database is locked: x/0, epoch 1"
    assert stopper.stop_all()
    suggested.on_trial_complete("one", error=True)
    assert suggested.suggest("two") == Searcher.FINISHED
    assert search.calls == []
