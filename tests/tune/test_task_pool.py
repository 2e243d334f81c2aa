"""Tasks in a pool of processes, on a real Ray of this machine: they stay, and what fails is tried again elsewhere."""

import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn, cast

import pytest
import ray.cloudpickle

from supersnn.errors import UserError
from supersnn.parts import raised_by
from tests.support.driver import is_gone
from tune.description.sweep import ResourcesConfig
from tune.execution import retries, task_pool, task_slot
from tune.execution.cluster import RayExecutor
from tune.execution.cluster_state import ClusterState
from tune.execution.failures import FailedForGood
from tune.execution.node_check import NodeMismatch
from tune.execution.nodes import Node
from tune.execution.preparations import PreparationFailed
from tune.execution.progress import advanced
from tune.execution.retries import GiveUp
from tune.execution.task_process import Started, TaskProcess
from tune.execution.task_slot import TaskSlot
from tune.notices import Notice, TaskRetried
from tune.store import Store

notices: list[Notice] = []


@pytest.fixture(scope="module")
def executor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayExecutor]:
    """Ray with a slot a core, and a deadline of three seconds."""
    folder = tmp_path_factory.mktemp("pool")
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # its imports would take the processes seconds
    started = RayExecutor(
        resources=ResourcesConfig(gpus=0, stall=3.0),
        max_failures=1,
        scratch=folder,
        run="run",
        storage=Store.at(folder).storage,
        check_file="",
        notify=notices.append,
    )
    yield started
    started.close()
    ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look and ask often; begin without notices."""
    monkeypatch.setattr(task_pool, "IDLE_EVERY", 0.2)
    monkeypatch.setattr(task_pool, "FIRST_SIGN", 5.0)
    monkeypatch.setattr(task_pool, "EPOCHS", 0.0)
    monkeypatch.setattr(task_slot, "WATCH_EVERY", 0.2)
    notices.clear()


def process(_: object) -> int:
    return os.getpid()


def once(do: Callable[[], None]) -> Callable[[Path], int]:
    """Return a task that does something in its first attempt, and returns its process in the next one."""

    def run(path: Path) -> int:
        if not path.exists():
            path.write_text(str(os.getpid()), encoding="utf-8")
            do()
        return os.getpid()

    return run


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def stopped() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def full_memory() -> None:
    raise MemoryError("no memory left")


def own_part() -> None:
    with raised_by("mypkg.it:network"):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")


def asserts() -> None:
    raise RuntimeError("CUDA error: device-side assert triggered")


def wrong() -> None:
    raise ValueError("a mistake")


def test_processes_stay_between_tasks_and_calls(executor: RayExecutor) -> None:
    first = dict(executor.tasks(process, range(6)))
    assert 1 <= len(set(first.values())) <= (os.cpu_count() or 1)
    assert set(dict(executor.tasks(process, range(2))).values()) <= set(first.values())
    assert notices == []


@pytest.mark.parametrize(
    ("do", "reason"),
    [
        (full_memory, "MemoryError: no memory left"),
        (own_part, "'mypkg.it:network' raises RuntimeError: CUDA error"),
        (wrong, "ValueError: a mistake"),
        (asserts, "device-side assert triggered"),
        (killed, ""),
        pytest.param(stopped, "no progress", marks=pytest.mark.slow),
    ],
)
def test_what_has_failed_is_tried_again(
    do: Callable[[], None], reason: str, executor: RayExecutor, tmp_path: Path
) -> None:
    path = tmp_path / "first"
    ((item, second),) = executor.tasks(once(do), [path])
    first = int(path.read_text(encoding="utf-8"))
    assert item == path
    assert isinstance(second, int)
    (notice,) = notices
    assert isinstance(notice, TaskRetried)
    assert reason in notice.reason
    assert notice.node
    if do is wrong:
        return
    assert second != first  # a process whose machine has failed is used no more
    deadline = time.monotonic() + 20
    while not is_gone(first):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def always_wrong(number: int) -> int:
    if number == 1:
        raise ValueError("a mistake")
    return number


def test_an_error_of_its_own_ends_a_task_after_max_failures_and_no_other(executor: RayExecutor) -> None:
    results = dict(executor.tasks(always_wrong, range(4)))
    failed = results.pop(1)
    assert isinstance(failed, FailedForGood)
    assert str(failed).startswith("always_wrong failed: ValueError: a mistake (the same command")
    assert ", in always_wrong\n" in failed.trace, "the worker's own frames"
    assert "\x1b" not in failed.trace
    assert results == {0: 0, 2: 2, 3: 3}
    assert len(notices) == 1


def thrice(path: Path) -> list[float]:
    """Fail in the first two attempts; return when each began."""
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{time.time()}\n")
    began = [float(line) for line in path.read_text(encoding="utf-8").split()]
    if len(began) < 3:
        full_memory()
    return began


def test_a_task_that_the_machine_fails_again_is_tried_again_later(
    executor: RayExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "WAIT", 6.0)
    executor._cluster.policy.succeeded("x/0")
    ((_, began),) = executor.tasks(thrice, [tmp_path / "attempts"])
    assert isinstance(began, list)
    assert began[2] - began[1] >= 6.0
    assert len(notices) == 2


class Run:
    """A final run, by its name for people."""

    label = "the final run direct/3 with seed 1000"


def outgrows(item: Run) -> None:
    raise MemoryError(f"no memory left for {item.label}")


def test_a_task_that_is_given_up_for_its_machine_is_named(
    executor: RayExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor._cluster.policy, "failed", lambda _key, failure, *_: GiveUp(failure))
    ((_, failed),) = executor.tasks(outgrows, [Run()])
    assert isinstance(failed, FailedForGood)
    assert str(failed).startswith("the final run direct/3 with seed 1000 failed: out of memory: MemoryError: no memory")
    assert ", in outgrows\n" in failed.trace
    assert PreparationFailed.of(failed) == PreparationFailed(failed.reason, by_user=False, trace=failed.trace)


def mistaken(_: object) -> None:
    raise UserError("teacher.weights: no file")


def test_a_mistake_of_the_user_is_not_tried_again(executor: RayExecutor) -> None:
    ((_, error),) = executor.tasks(mistaken, [0])
    assert isinstance(error, UserError)
    assert notices == []


def steady(seconds: float) -> float:
    for _ in range(16):
        time.sleep(seconds / 16)
        advanced()
    return seconds


@pytest.mark.slow
def test_a_task_that_advances_has_all_its_time(executor: RayExecutor) -> None:
    assert list(executor.tasks(steady, [8.0])) == [(8.0, 8.0)]
    assert notices == []


class Broken(TaskProcess):
    """A process that cannot start, for a reason that is not the machine's."""

    def start(self) -> NoReturn:
        raise ValueError("cannot start")


def test_a_process_that_cannot_start_is_not_waited_for(executor: RayExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_slot, "TaskProcess", Broken)
    pool = task_pool.TaskPool(executor._cluster, notices.append, light=True)
    ((_, error),) = pool.run(process, [0], lambda: None)
    assert isinstance(error, FailedForGood)
    assert error.reason == "ValueError: cannot start"
    assert [type(notice) for notice in notices] == [TaskRetried]
    assert pool._slots == []


def test_a_process_whose_node_is_lost_as_it_starts_is_replaced(
    executor: RayExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray plans its resources anew then, and no node has them: where it has started, the process itself says."""
    monkeypatch.setattr(task_slot, "node_of_group", lambda _: None)
    pool = task_pool.TaskPool(executor._cluster, notices.append, light=True)
    deadline = time.monotonic() + 60

    def idle() -> None:
        assert time.monotonic() < deadline, "nobody waits for its process"

    results = pool.run(process, [0], idle)
    assert [number for number, _ in results] == [0]
    pool.close()


def hanging(path: Path) -> type[TaskProcess]:
    """Return a process that does not come to its end of starting, the first time."""

    class Hanging(TaskProcess):
        def start(self) -> NodeMismatch | Started:
            if not path.exists():
                path.write_text(str(os.getpid()), encoding="utf-8")
                time.sleep(3600)
            return super().start()

    return Hanging


@pytest.mark.slow
def test_a_process_that_hangs_while_it_starts_is_replaced(
    executor: RayExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task_pool, "FIRST_SIGN", 1.0)
    monkeypatch.setattr(task_slot, "TaskProcess", hanging(tmp_path / "first"))
    pool = task_pool.TaskPool(executor._cluster, notices.append, light=True)
    ((_, second),) = pool.run(process, [0], lambda: None)
    pool.close()
    assert second != int((tmp_path / "first").read_text(encoding="utf-8"))
    (notice,) = notices
    assert isinstance(notice, TaskRetried)
    assert notice.reason.startswith("a process has not started for")
    assert notice.node


def test_what_tasks_wait_for_is_told(executor: RayExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, told = executor._cluster, list[str]()
    living = cluster._nodes
    monkeypatch.setattr(cluster, "_nodes", lambda: living() if told else [])
    monkeypatch.setattr(cluster, "_counted", {})
    monkeypatch.setattr(executor, "waits", told.append)
    executor._pool.close()
    assert [number for number, _ in executor.tasks(process, [0])] == [0]
    assert list(dict.fromkeys(told)) == ["a node: none of 0 living ones holds a trial", ""]


class Slot:
    """A process at work: whether its task has given a sign, whether any has, the longest time between two."""

    def __init__(self, advanced: bool, proven: bool, longest: float) -> None:
        self.advanced, self.proven, self.longest = advanced, proven, longest


def test_deadlines_are_learned_from_signs_of_progress_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_pool, "EPOCHS", 10.0)
    work = task_pool._Work[int](process, deque())
    found, new, known = (
        cast(TaskSlot, Slot(*values)) for values in ((False, True, 0.1), (False, False, 0.0), (True, True, 2.0))
    )
    work.learn(found)
    before = work.slowest
    assert before is None
    assert [work.deadline(slot, 3.0) for slot in (found, new)] == [15.0, 15.0]
    work.learn(known)
    assert work.slowest == 2.0
    assert [work.deadline(slot, 3.0) for slot in (known, new)] == [20.0, 20.0]
    assert [work.deadline(slot, 30.0) for slot in (known, new)] == [30.0, 150.0]


class Idle:
    """A process without a task on a node."""

    pending = None

    def __init__(self, node: str) -> None:
        self.node, self.ended = node, False

    def end(self) -> None:
        self.ended = True


def test_an_idle_process_on_a_node_that_gets_no_more_work_is_ended() -> None:
    nodes = [Node(name, name, {"CPU": 4.0}, {}, draining=name == "a") for name in "ab"]
    pool = task_pool.TaskPool(
        ClusterState(ResourcesConfig(gpus=0), None, notices.append, lambda: nodes), notices.append
    )
    slots = [Idle("a"), Idle("b"), Idle("a")]
    pool._slots = cast(list[TaskSlot], slots[:])
    running = {cast(TaskSlot, slots[2]): task_pool._Task(0, "key", "label")}
    pool._shrink(task_pool._Work[int](process, deque(), running))
    assert [slot.ended for slot in slots] == [True, False, False]


def silent(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@pytest.mark.slow
def test_results_found_at_once_shorten_no_deadline(executor: RayExecutor) -> None:
    assert list(executor.tasks(silent, [0.0, 6.0])) == [(0.0, 0.0), (6.0, 6.0)]
    assert notices == []


def faulty(_: object) -> None:
    raise OSError(5, "Input/output error")


def test_where_everything_fails_the_sweep_ends_with_a_reason(executor: RayExecutor) -> None:
    with pytest.raises(UserError, match=r"everything fails: \d attempts.*Input/output error.*rerun the same command"):
        list(executor.tasks(faulty, range(3)))
    assert set(dict(executor.tasks(process, range(2))).values())  # the next call begins anew
