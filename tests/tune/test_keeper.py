"""The keeper of packs: where it runs, and which holders it replaces."""

import time
from types import SimpleNamespace
from typing import Any

import pytest
import ray
import ray.exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tune.execution.keeper import Keeper, start_keeper
from tune.execution.progress import FIRST_EPOCH


class Actor:
    """A handle of a holder: what its calls return, or raise."""

    def __init__(self, answer: object) -> None:
        self.answer, self.killed = answer, False
        self.alive = SimpleNamespace(remote=lambda *_: self)


class Rays:
    """Ray with a keeper's holders, in place of the real one."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.started: list[Actor] = []
        self.starting: set[Actor] = set()
        self.now = 0.0
        patch.setattr(ray, "get", self._get)
        patch.setattr(ray, "wait", lambda refs, **_: ([], refs) if refs[0] in self.starting else (refs, []))
        patch.setattr(ray, "kill", lambda actor: setattr(actor, "killed", True))
        patch.setattr(time, "monotonic", lambda: self.now)
        self.keeper = Keeper(2, "cpu", 600.0)
        patch.setattr(self.keeper, "_start", self._start)

    def _start(self, _node: str, _gpus: tuple[str, ...]) -> Actor:
        self.started.append(Actor(True))
        return self.started[-1]

    def _get(self, actor: Actor, timeout: float | None = None) -> object:
        assert actor not in self.starting, "it would be waited for"
        if isinstance(actor.answer, Exception):
            raise actor.answer
        assert timeout is None or timeout > 0
        return actor.answer


def test_a_holder_that_is_starting_is_given_to_all_its_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    rays = Rays(monkeypatch)
    first = rays.keeper.holder("n", ("0",))
    rays.starting = {first}
    rays.now = 200.0
    assert rays.keeper.holder("n", ("0",)) is first
    rays.starting = set()
    assert rays.keeper.holder("n", ("0",)) is first
    assert rays.keeper.holder("n", ("1",)) is not first
    first.answer = ray.exceptions.GetTimeoutError()
    second = rays.keeper.holder("n", ("0",))
    assert (second is first, first.killed) == (False, True)
    rays.starting, rays.now = {second}, 200.0 + FIRST_EPOCH * 600.0
    assert rays.keeper.holder("n", ("0",)) is not second, "it starts for hours"


def test_the_keeper_stays_on_the_drivers_node(monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {}
    remote = SimpleNamespace(remote=lambda *given: given)
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(get_node_id=lambda: "1" * 56))
    monkeypatch.setattr(
        ray, "remote", lambda _: SimpleNamespace(options=lambda **named: options.update(named) or remote)
    )
    assert start_keeper(3, "cuda", 60.0) == (3, "cuda", 60.0)
    where = options["scheduling_strategy"]
    assert isinstance(where, NodeAffinitySchedulingStrategy)
    assert (where.node_id, where.soft) == ("1" * 56, False)


def test_a_holder_sees_its_gpus_alone_and_has_a_queue_for_each_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def options(**given: Any) -> Any:
        asked.append(given)
        return SimpleNamespace(remote=lambda *_: Actor(True))

    monkeypatch.setattr(ray, "remote", lambda _: SimpleNamespace(options=options))
    keeper = Keeper(4, "cuda", 600.0)
    keeper.holder("0" * 56, ("2",))
    keeper.holder("0" * 56, ())
    variables = asked[0]["runtime_env"]["env_vars"]
    assert variables["CUDA_VISIBLE_DEVICES"] == "2"
    assert variables["CUDA_DEVICE_MAX_CONNECTIONS"] == "32"
    assert "runtime_env" not in asked[1]
