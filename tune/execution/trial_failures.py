"""What follows a failed attempt of a trial: `RetryPolicy` decides, the search and its record are told. Without Ray."""

from collections.abc import Callable, Mapping

from supersnn.errors import UserError
from supersnn.records.metrics import EPOCH_SECONDS
from tune.execution.failures import Failure
from tune.execution.nodes import machine
from tune.execution.retries import Attempt, GiveUp, Retry, RetryPolicy
from tune.execution.stragglers import Stragglers
from tune.search.messages import Report
from tune.search.search import Search


class TrialFailures:
    """The failed attempts of one search's trials."""

    def __init__(
        self, search: Search, policy: RetryPolicy, nodes: Callable[[], Mapping[str, str]] = dict[str, str]
    ) -> None:
        """Begin without failures.

        Args:
            search: whose trials fail.
            policy: of the executor; its `max_failures` follows the sweep's.
            nodes: returns the living nodes that could hold a trial: their ids, and their names for people.
        """
        self._search, self._policy, self._nodes = search, policy, nodes
        self._stragglers = Stragglers()

    def reported(self, key: str, node: str | None = None, gpus: str | None = None) -> None:
        """Take a sign that a trial gets on, on a node, and on which of its GPUs, if any."""
        self._policy.succeeded(key, node, gpus)

    def slow(self, key: str, node: str, report: Report) -> bool:
        """Take a trial's epoch; return whether it is requeued, because its node is many times slower than others."""
        seconds = report.metrics.get(EPOCH_SECONDS.key)
        if report.place is not None or seconds is None:  # the first epoch of a process loads and compiles
            return False
        ratio = self._stragglers.epoch(node, self._search.comparable(key), seconds)
        if ratio is None:
            return False
        reason = f"its epochs take {ratio:.1f} times as long as those of the other nodes"
        if not self._policy.leave_out(node, reason, self._nodes()) and node not in self._policy.breaker.left_out:
            return False
        self._stragglers.forget(node)
        self._search.requeue(key)
        return True

    def failed(self, key: str, failure: Failure, node: str | None = None) -> None:
        """Take a failed attempt: the trial is requeued, or has failed, or the search is halted.

        A full disk of the store is no fault of a trial or a node: the trial stays interrupted, the search is halted.
        """
        search, policy = self._search, self._policy
        if not search.is_running(key):
            return
        if failure.kind == "disk" and (full := search.store_full(failure.text)) is not None:
            search.halt(full)
            return
        policy.max_failures = search.settings.search.max_failures
        number, names = policy.attempts(key) + 1, self._nodes()
        decision = policy.failed(key, failure, node, names)
        if isinstance(decision, GiveUp):
            name = names.get(node or "")
            search.ended(key, f"failed:{decision.failure.text}", None if name is None else machine(name))
            return
        attempt = Attempt(number, None if node is None else names.get(node, node), failure)
        search.attempt_failed(key, attempt.number, failure.kind, failure.text, attempt.node)
        if isinstance(decision, Retry):
            search.requeue(key, decision.set_back, decision.wait)
        else:
            search.halt(UserError(decision.text))
