"""Which nodes are left out, and what follows a failed attempt."""

from tune.execution import breaker, retries
from tune.execution.breaker import NodeBreaker
from tune.execution.failures import Failure
from tune.execution.retries import GiveUp, Retry, RetryPolicy, Stop

SICK, OWN = Failure("gpu", "RuntimeError: CUDA error"), Failure("own", "ValueError: 3")
LOST, DIED = Failure("node", "its node has died"), Failure("worker", "the worker died")
NODES = ("a", "b", "c")


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_two_failures_in_a_row_that_others_do_not_have_leave_a_node_out() -> None:
    nodes = NodeBreaker()
    assert not nodes.failed("a", "t/0", "x", NODES)
    nodes.succeeded("a")
    assert not nodes.failed("a", "t/1", "x", NODES), "a success between"
    assert not nodes.failed("a", "t/1", "x", NODES), "the same work counts once"
    assert nodes.failed("a", "t/2", "why", NODES)
    assert nodes.left_out == {"a": "why"}
    assert not nodes.failed("a", "t/3", "x", NODES), "it is out already"


def test_what_all_nodes_have_leaves_none_out() -> None:
    nodes = NodeBreaker()
    for work in ("t/0", "t/1", "t/2"):
        for node in NODES[1:]:
            nodes.failed(node, work, "x", NODES[1:])
    assert nodes.left_out.keys() <= {"b"}, "the first to have two, while the other had one at most"
    alone = NodeBreaker()
    assert not any(alone.failed("a", f"t/{number}", "x", ["a"]) for number in range(9)), "the last node"
    assert alone.all_failed(["a"])
    assert not alone.all_failed(["a", "b"])


def test_a_node_is_looked_at_again_after_longer_and_longer_times() -> None:
    clock = Clock()
    nodes = NodeBreaker(clock)
    nodes.failed("a", "t/0", "x", NODES)
    nodes.failed("a", "t/1", "x", NODES)
    assert nodes.due() == []
    clock.now = breaker.FIRST_LOOK
    assert nodes.due() == ["a"]
    assert nodes.due() == [], "until the next time"
    nodes.still("a", "GPU 0: wrong values")
    assert nodes.left_out == {"a": "GPU 0: wrong values"}
    clock.now += 2 * breaker.FIRST_LOOK
    assert nodes.due() == ["a"]
    nodes.readmit("a")
    assert nodes.left_out == {}
    assert nodes.failed("a", "t/3", "again", NODES), "on probation a single failure is enough"
    clock.now += 2 * breaker.FIRST_LOOK
    assert nodes.due() == [], "it is waited for longer than the first time"
    clock.now += breaker.LONGEST_WAIT
    assert nodes.due() == ["a"]
    nodes.readmit("a")
    nodes.succeeded("a")
    assert not nodes.failed("a", "t/4", "x", NODES), "a success ends the probation"


def test_own_errors_are_retried_as_often_as_allowed_the_last_time_elsewhere() -> None:
    policy = RetryPolicy(max_failures=2)
    assert policy.failed("t/0", OWN, "a", NODES) == Retry(frozenset())
    assert policy.failed("t/0", OWN, "b", NODES) == Retry(frozenset({"a", "b"})), "the last time"
    policy.max_failures = 3
    assert policy.failed("t/0", OWN, "c", NODES) == Retry(frozenset()), "it has failed everywhere: anywhere"
    assert policy.failed("t/0", OWN, "a", NODES) == GiveUp(OWN)
    assert policy.last("t/0") is None
    assert policy.breaker.left_out == {}, "errors of the work's own say nothing about a node"
    assert RetryPolicy(0).failed("t/0", OWN) == GiveUp(OWN)


def test_failures_of_the_system_never_count_as_the_works_own() -> None:
    policy = RetryPolicy(max_failures=0)
    for number in range(9):
        assert isinstance(policy.failed("t/0", SICK, NODES[number % 3], NODES), Retry)
        policy.succeeded("t/0", NODES[(number + 1) % 3])
    attempt = policy.last("t/0")
    assert attempt is not None
    assert (attempt.number, attempt.node, attempt.failure) == (9, "c", SICK)
    assert policy.failed("t/0", OWN, "a", NODES) == GiveUp(OWN)


def test_a_sick_node_is_left_out_and_named_once() -> None:
    named: list[tuple[str, str]] = []
    policy = RetryPolicy(2, left_out=lambda node, reason: named.append((node, reason)))
    policy.succeeded("t/9", "b")
    for number in range(3):
        assert isinstance(policy.failed(f"t/{number}", SICK, "a", NODES), Retry)
    assert named == [("a", SICK.text)]
    assert policy.avoided("t/0") == {"a"}


def test_where_everything_fails_the_sweep_is_stopped_with_the_reason() -> None:
    policy = RetryPolicy(2)
    decisions = [policy.failed(f"t/{number}", SICK, NODES[number], NODES) for number in range(3)]
    assert [type(decision) for decision in decisions] == [Retry, Retry, Stop]
    assert isinstance(decisions[-1], Stop)
    assert "3 attempts in a row" in decisions[-1].text
    assert SICK.text in decisions[-1].text
    assert "\n" not in decisions[-1].text

    one = RetryPolicy(2)
    alone = [type(one.failed("t/0", DIED, "a", ["a"])) for _ in range(retries.AT_MOST)]
    assert alone == [Retry] * (retries.AT_MOST - 1) + [Stop]

    busy = RetryPolicy(2)
    assert all(isinstance(busy.failed(f"t/{n}", SICK, "a", ("a", "b")), Retry) for n in range(9)), "b may be sound"


def test_work_that_fails_everywhere_while_other_work_succeeds_has_an_error_of_its_own() -> None:
    policy, large = RetryPolicy(2), Failure("memory", "OutOfMemoryError: 900 GiB")
    for number in range(retries.WITHOUT_PROGRESS - 1):
        assert isinstance(policy.failed("t/0", large, NODES[number % 3], NODES), Retry)
        policy.succeeded("t/1", NODES[number % 3])
    assert policy.failed("t/0", large, "a", NODES) == GiveUp(large)
    assert policy.breaker.left_out == {}


def test_lost_nodes_neither_stop_the_sweep_nor_end_a_trial_soon() -> None:
    policy = RetryPolicy(0)
    for number in range(30):
        assert isinstance(policy.failed(f"t/{number}", LOST, NODES[number % 3], NODES), Retry)
    for _ in range(retries.LOST_WITHOUT_PROGRESS - 2):
        policy.succeeded("t/5", "a")
        assert isinstance(policy.failed("t/0", LOST, "b", NODES), Retry)
    assert policy.failed("t/0", LOST, "b", NODES) == GiveUp(LOST)
