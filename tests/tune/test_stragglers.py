"""Nodes that are many times slower than the others."""

from tune.execution.breaker import NodeBreaker
from tune.execution.retries import RetryPolicy
from tune.execution.stragglers import MANY_TIMES, Stragglers

KIND = "resnet8 cpu"


def test_a_node_is_slow_from_four_times_the_median_of_the_others() -> None:
    times = Stragglers()
    for node, seconds in (("a", 1.0), ("b", 1.2), ("c", 0.8)):
        assert all(times.epoch(node, KIND, seconds) is None for _ in range(3))
    assert [times.epoch("slow", KIND, MANY_TIMES) for _ in range(3)] == [None, None, MANY_TIMES]
    assert [times.epoch("slower", KIND, 3.0) for _ in range(4)] == [None] * 4


def test_trainings_of_another_kind_are_not_compared() -> None:
    times = Stragglers()
    assert all(times.epoch("a", KIND, 1.0) is None for _ in range(3))
    assert all(times.epoch("b", "vgg8 cpu", 50.0) is None for _ in range(5))


def test_a_node_that_is_used_again_begins_anew() -> None:
    times = Stragglers()
    assert all(times.epoch("a", KIND, 1.0) is None for _ in range(3))
    assert [times.epoch("b", KIND, 9.0) for _ in range(3)][-1] == 9.0
    times.forget("b")
    assert [times.epoch("b", KIND, 9.0) for _ in range(3)] == [None, None, 9.0]


def test_the_last_usable_node_is_never_left_out() -> None:
    nodes = NodeBreaker()
    assert not nodes.leave_out("a", "slow", ["a"])
    assert nodes.leave_out("a", "slow", ["a", "b"])
    assert not nodes.leave_out("a", "slow", ["a", "b"]), "it is out already"
    assert not nodes.leave_out("b", "slow", ["a", "b"])
    assert nodes.left_out == {"a": "slow"}


def test_the_node_is_named_once() -> None:
    named: list[tuple[str, str]] = []
    policy = RetryPolicy(2, lambda node, reason: named.append((node, reason)))
    assert policy.leave_out("a", "slow", ["a", "b"])
    assert not policy.leave_out("a", "slow", ["a", "b"])
    assert named == [("a", "slow")]
