"""Ray where it is started for one sweep, for real: what its workers find in their environment."""

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import ray

from supersnn.errors import ExternalError, UserError
from tests.support.sweeps import smallest
from tune.description.sweep import ResourcesConfig
from tune.execution import cluster, searcher
from tune.execution.breaker import FIRST_LOOK, NodeBreaker
from tune.execution.cluster import LOCAL_SETTINGS, LONGEST_SOCKET, SOCKET, RayExecutor, require_short_paths
from tune.execution.cluster_state import NODE_ID, living_nodes
from tune.execution.executor import PAGES
from tune.execution.node_check import NodeRequirements, local_report
from tune.execution.node_looks import NodeLooks
from tune.notices import ignore
from tune.search.messages import Job
from tune.search.search import Search
from tune.storage import Storage
from tune.store import Store


def environment(_: int) -> dict[str, str]:
    return dict(os.environ)


@pytest.fixture
def executor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RayExecutor]:
    """A Ray of our own."""
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    monkeypatch.setenv("SUPERSNN_DATA", os.path.relpath(tmp_path))
    monkeypatch.setenv(next(iter(LOCAL_SETTINGS)), "1")  # the user's own wish
    started = RayExecutor(
        resources=ResourcesConfig(),
        max_failures=0,
        scratch=tmp_path,
        run="run",
        storage=Store.at(tmp_path).storage,
        check_file="",
        notify=ignore,
    )
    yield started
    started.close()


def test_workers_have_our_environment_and_the_driver_keeps_its_own(executor: RayExecutor, tmp_path: Path) -> None:
    first, *others = LOCAL_SETTINGS
    ours = {*LOCAL_SETTINGS, "GLIBC_TUNABLES"}
    assert {name: value for name, value in os.environ.items() if name in ours} == {first: "1"}
    assert os.environ["SUPERSNN_DATA"] == os.path.relpath(tmp_path)
    ((_, seen),) = executor.tasks(environment, [0])
    assert not isinstance(seen, Exception)
    assert seen["GLIBC_TUNABLES"] == PAGES
    assert seen["SUPERSNN_DATA"] == str(tmp_path.resolve())
    assert seen[first] == "1" != LOCAL_SETTINGS[first]
    assert {name: seen[name] for name in others} == {name: LOCAL_SETTINGS[name] for name in others}
    second_looks(Store.at(tmp_path).storage)


class OneTrial:
    """A search of one trial, whose job no worker can run."""

    over, halted, gpus, held = False, None, None, ()
    settings = smallest(search={"max_failures": 0})

    def __init__(self, store: Path) -> None:
        self.job = Job("x/0", {}, (0,), "s/trials/x/0", "s", str(store), "token")
        self.jobs = [self.job]
        self.calls = list[str]()

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None

    def next_job(self, _ready: object) -> Job | None:
        return self.jobs.pop() if self.jobs else None

    def is_running(self, _key: str) -> bool:
        return not self.jobs

    def requeue(self, key: str) -> None:
        self.calls.append(f"requeue {key}")
        self.jobs = [self.job]

    def ended(self, key: str, end: str, _node: str | None = None) -> None:
        self.calls.append(f"{key} {end.partition(':')[0]}")


@pytest.mark.timeout(120)
def test_a_trial_that_waits_for_no_node_that_is_left_is_placed_anew(
    executor: RayExecutor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (node,) = living_nodes()
    labels = [{NODE_ID: f"!in({node.id})"}, dict[str, str]()]  # as where another node has been lost since
    monkeypatch.setattr(executor._cluster, "label_selector", lambda _avoid: labels.pop(0))
    monkeypatch.setattr(searcher, "CHECK_EVERY", 1.0)
    search = OneTrial(tmp_path)
    executor.search(cast(Search, search))
    assert search.calls == ["requeue x/0", "x/0 failed"]
    assert labels == []


def test_trials_that_are_packed_otherwise_get_other_processes(executor: RayExecutor) -> None:
    (node,) = living_nodes()
    executor.adopt(ResourcesConfig(gpus=0, pack=2), max_failures=0)
    executor._cluster.start_keeper()
    first = executor._cluster.keeper
    holder = ray.get(first.holder.remote(node.id, ()))
    assert ray.get(holder.alive.remote())
    executor.adopt(ResourcesConfig(gpus=0, pack=4, stall=60.0), max_failures=3)
    assert executor._cluster.policy.max_failures == 3
    executor._cluster.start_keeper()
    assert executor._cluster.keeper is not first
    deadline = time.monotonic() + 30.0
    while answers(holder):
        assert time.monotonic() < deadline, "the first keeper's holders end with it"
        time.sleep(0.1)


def answers(holder: Any) -> bool:
    """Whether a holder is still there."""
    try:
        return bool(ray.get(holder.alive.remote()))
    except ray.exceptions.RayActorError:
        return False


def second_looks(storage: Storage) -> None:
    """A node that was left out is readmitted where it matches the driver now, and stays left out where it does not."""
    now, (node,) = [0.0], living_nodes()
    nodes = [node.id, "another"]
    storage.write_text("check", "")
    here = local_report(None, gpus=0.0)
    required = NodeRequirements(here.versions, here.code, 0.0, storage.address, "check")
    for requirements, left_out in ((required, []), (replace(required, code="other"), [node.id])):
        breaker = NodeBreaker(lambda: now[0])
        assert [breaker.failed(node.id, work, "CUDA error", nodes) for work in ("t/0", "t/1")] == [False, True]
        looks = NodeLooks(requirements)
        looks.look(breaker, lambda: nodes)
        assert breaker.left_out == {node.id: "CUDA error"}, "it is not due yet"
        now[0] += FIRST_LOOK
        deadline = time.monotonic() + 60.0
        while breaker.left_out == {node.id: "CUDA error"} and time.monotonic() < deadline:
            looks.look(breaker, lambda: nodes)
            time.sleep(0.05)
        assert list(breaker.left_out) == left_out
        assert "sources" in breaker.left_out.get(node.id, "sources"), "the new reason"


def test_a_folder_in_which_sockets_have_too_long_paths_is_refused_before_ray_starts() -> None:
    longest = "/" + "x" * (LONGEST_SOCKET - len(SOCKET) - 1)
    require_short_paths("TMPDIR", longest)
    with pytest.raises(UserError, match=r"TMPDIR=/x+: Ray's sockets would have paths of more than 107 bytes"):
        require_short_paths("TMPDIR", longest + "x")


def test_a_ray_that_does_not_start_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise RuntimeError("the raylet has died\nwith a long story")

    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(ExternalError, match="does not start on this machine: the raylet has died with a long story;"):
        cluster._start()
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / ("x" * 98)))
    with pytest.raises(UserError, match="RAY_TMPDIR="):
        cluster._start()
