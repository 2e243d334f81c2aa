"""Teachers whose preparation failed: what follows an attempt; once all else is done, one line names those left."""

from collections.abc import Callable, Mapping

from supersnn.errors import ExternalError, UserError
from tune.execution.failures import Failure
from tune.execution.preparations import Preparation, PreparationFailed, Preparations, Prepared
from tune.execution.retries import Retry, RetryPolicy, Stop
from tune.execution.teacher_storage import TEACHERS
from tune.search.messages import TRACEBACK
from tune.search.search import Search
from tune.storage import Storage


class TeacherFailures:
    """The attempts of the preparations beside one search, which follow the rules of trials (`TrialFailures`)."""

    def __init__(
        self,
        search: Search,
        preparations: Preparations,
        policy: RetryPolicy,
        nodes: Callable[[], Mapping[str, str]] = dict[str, str],
    ) -> None:
        """Begin without failures.

        Args:
            search: is halted where everything fails, or the store is full.
            preparations: are told what follows.
            policy: of the executor; its `max_failures` follows the sweep's.
            nodes: returns the living nodes that could hold a trial: their ids, and their names for people.
        """
        self._search, self._preparations, self._policy, self._nodes = search, preparations, policy, nodes

    def advanced(self, key: str, seconds: float, node: str | None = None, gpus: str | None = None) -> None:
        """Take a sign of progress, with the longest time between two of them."""
        self._preparations.advanced(key, seconds)
        self._policy.succeeded(self._preparations.name_of(key) or key, node, gpus)

    def prepared(self, key: str, result: Prepared, node: str | None = None, gpus: str | None = None) -> None:
        """Take a result."""
        if (name := self._preparations.name_of(key)) is not None:
            self._policy.succeeded(name, node, gpus)
            self._policy.ended(name)
        self._preparations.ended(key, result)

    def failed(self, key: str, failure: Failure, node: str | None = None, trace: str = "") -> None:
        """Take a failed attempt: the teacher is prepared again, or has failed, or the search is halted.

        Args:
            key: the preparation; nothing follows where it has ended.
            failure: what has happened.
            node: where, if that is known.
            trace: the traceback, where there is one.
        """
        search, policy = self._search, self._policy
        if (name := self._preparations.name_of(key)) is None:
            return
        if failure.kind == "disk" and (full := search.store_full(failure.text)) is not None:
            self._preparations.requeue(key)
            search.halt(full)
            return
        policy.max_failures = search.settings.search.max_failures
        nodes = self._nodes()
        decision = policy.failed(name, failure, node, nodes)
        if isinstance(decision, Retry):
            self._preparations.retried(key, nodes.get(node or "", node), failure.text, decision.wait)
        elif isinstance(decision, Stop):
            self._preparations.requeue(key)
            search.halt(UserError(decision.text))
        else:
            self._preparations.ended(key, PreparationFailed(failure.text, by_user=False, trace=trace))


def require_none(failed: Mapping[Preparation, PreparationFailed], storage: Storage) -> None:
    """Raise one error for the teachers that could not be prepared; each traceback is written beside the teachers.

    Raises:
        UserError: the user can mend the first such.
        ExternalError: another one has failed.
    """
    if not failed:
        return
    for failure in failed.values():
        if failure.by_user:
            raise UserError(failure.text)
    names = {item: f"{TEACHERS}/{item.name}-{TRACEBACK}" for item in failed}
    for item, failure in failed.items():
        if failure.trace:
            storage.write_text(names[item], failure.trace)
    item, failure = next(iter(failed.items()))
    others = f", and {len(failed) - 1} more" if len(failed) > 1 else ""
    where = f"; its traceback is in {storage.root / names[item]}" if failure.trace else ""
    raise ExternalError(
        f"{item.label} could not be prepared{others}: {failure.text}{where} "
        "(the same command tries again what is missing)"
    )
