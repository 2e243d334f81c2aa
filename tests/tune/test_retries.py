"""Which nodes are left out, and what follows a failed attempt."""

from dataclasses import replace

from tune.execution import breaker, retries
from tune.execution.breaker import NodeBreaker
from tune.execution.failures import Failure
from tune.execution.retries import GiveUp, Retry, RetryPolicy, Stop

SICK, OWN = Failure("gpu", "RuntimeError: CUDA error"), Failure("own", "ValueError: 3")
LOST, DIED = Failure("node", "its node has died"), Failure("worker", "the worker died")
HOLDER = Failure("holder", "the process of its GPU was lost: killed", part="holder 1")
ON_GPU = Failure("gpu", "GPU 3: RuntimeError: CUDA error", part="3")
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
    policy.succeeded("t/1", "a")
    waits = []
    for number in range(retries.WITHOUT_PROGRESS - 1):
        decision = policy.failed("t/0", large, NODES[number % 3], NODES)
        assert isinstance(decision, Retry)
        waits.append(decision.wait)
        policy.succeeded("t/1", NODES[number % 3])
    assert waits == [0.0, 90.0, 180.0]
    assert sum(waits) > 240, "storage that is away for a minute or two ends no trial"
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


def test_nodes_that_are_lost_again_and_again_stop_the_sweep_where_nothing_else_succeeds() -> None:
    policy = RetryPolicy(0)
    policy.succeeded("t/9", "a")
    decisions = [
        policy.failed(f"t/{trial}", LOST, f"node {number}-{trial}", [f"node {number + 1}-{trial}"])
        for number in range(retries.LOST_WITHOUT_PROGRESS)
        for trial in range(3)
    ]
    first = next(number for number, decision in enumerate(decisions) if not isinstance(decision, Retry))
    assert first == 3 * (retries.LOST_WITHOUT_PROGRESS - 1)
    stop = decisions[first]
    assert isinstance(stop, Stop)
    assert stop.text.startswith("every node is lost: 12 attempts in a row without a success; the last: node lost: its")
    assert all(decision == Retry(decision.avoid) for decision in decisions[:first] if isinstance(decision, Retry))


def test_the_last_work_of_a_sweep_is_not_given_up_within_seconds() -> None:
    policy, away = RetryPolicy(0), Failure("io", "OSError: [Errno 5] Input/output error")
    policy.succeeded("t/9", "a")
    waits = {"t/0": 0.0, "t/1": 0.0}
    for number in range(40):
        key = f"t/{number % 2}"
        decision = policy.failed(key, away, "a", ["a"])
        if not isinstance(decision, Retry):
            break
        waits[key] += decision.wait
    assert decision == GiveUp(away)
    assert waits[key] > 240


def test_a_lost_holder_counts_once_for_all_its_trials() -> None:
    policy = RetryPolicy(0)
    for number in range(retries.AT_MOST):
        assert isinstance(policy.failed(f"t/{number}", HOLDER, "a", ["a"]), Retry)
    assert policy.breaker.all_failed(["a"])
    assert policy._failed_since == {retries._HOLDERS: 1}
    policy.succeeded("t/0", "a")
    assert isinstance(policy.failed("t/7", HOLDER, "a", NODES), Retry)
    assert not policy.breaker.all_failed(["a"]), "its last trial is told later, and others work there again"
    assert isinstance(policy.failed("t/1", replace(HOLDER, part="holder 2"), "a", NODES), Retry)
    assert policy.breaker.left_out == {}
    policy.failed("t/1", replace(HOLDER, part="holder 3"), "a", NODES)
    assert policy.breaker.left_out == {"a": HOLDER.text}, "two in a row, where other nodes have none"


def test_holders_that_are_lost_again_and_again_stop_the_sweep() -> None:
    policy = RetryPolicy(0)
    policy.succeeded("t/9", "a")
    decisions = [
        policy.failed(f"t/{trial}", replace(HOLDER, part=f"holder {number}"), "a", ["a"])
        for number in range(retries.AT_MOST)
        for trial in range(4)
    ]
    first = next(number for number, decision in enumerate(decisions) if not isinstance(decision, Retry))
    assert first == 4 * (retries.AT_MOST - 1)
    assert isinstance(decisions[first], Stop)


def test_successes_on_other_gpus_do_not_clear_those_of_a_sick_one() -> None:
    named: list[tuple[str, str]] = []
    policy = RetryPolicy(2, left_out=lambda node, reason: named.append((node, reason)))
    for trial in ("t/0", "t/1"):
        policy.succeeded("t/9", "a", "0")
        assert isinstance(policy.failed(trial, ON_GPU, "a", NODES), Retry)
        policy.succeeded("t/9", "a", "0")
    assert named == [("a", ON_GPU.text)]

    flaky = RetryPolicy(2)
    for trial in ("t/0", "t/1", "t/2"):
        flaky.failed(trial, ON_GPU, "a", NODES)
        flaky.succeeded("t/9", "a", "3")
    assert flaky.breaker.left_out == {}


def test_a_sick_gpu_fails_no_trial_and_no_sweep_while_other_gpus_of_its_node_work() -> None:
    policy = RetryPolicy(0)
    policy.succeeded("t/9", "a", "0")
    for number in range(retries.LOST_WITHOUT_PROGRESS):
        assert isinstance(policy.failed(f"t/{number}", ON_GPU, "a", ["a"]), Retry)
    policy.succeeded("t/9", "a", "0")
    for number in range(retries.LOST_WITHOUT_PROGRESS - 1):
        assert isinstance(policy.failed("t/0", ON_GPU, "a", ["a"]), Retry), number
    last = policy.failed("t/0", ON_GPU, "a", ["a"])
    assert isinstance(last, Stop)
    assert "no other GPU takes the work: 12 attempts in a row" in last.text
    assert "GPU 3: RuntimeError: CUDA error" in last.text


def test_work_that_fails_on_a_gpu_where_other_work_succeeds_has_an_error_of_its_own() -> None:
    policy = RetryPolicy(0)
    for _ in range(retries.WITHOUT_PROGRESS - 1):
        assert isinstance(policy.failed("t/0", ON_GPU, "a", NODES), Retry)
        policy.succeeded("t/1", "a", "3")
    assert policy.failed("t/0", ON_GPU, "a", NODES) == GiveUp(ON_GPU)


def test_the_last_work_of_a_sweep_is_not_given_up_for_its_gpu() -> None:
    policy = RetryPolicy(0)
    policy.succeeded("t/9", "a", "3")
    decisions = [policy.failed("t/0", ON_GPU, "a", ["a"]) for _ in range(retries.AT_MOST)]
    assert [type(decision) for decision in decisions] == [Retry] * (retries.AT_MOST - 1) + [Stop]


def test_a_readmitted_node_is_on_probation_until_the_gpu_that_failed_succeeds() -> None:
    nodes = NodeBreaker()
    for work in ("t/0", "t/1"):
        nodes.failed("a", work, "x", NODES, part="3")
    nodes.readmit("a")
    nodes.succeeded("a", "0")
    assert nodes.failed("a", "t/2", "x", NODES, part="3"), "a single failure is enough"
    nodes.readmit("a")
    nodes.succeeded("a", "3")
    assert not nodes.failed("a", "t/3", "x", NODES, part="3")
