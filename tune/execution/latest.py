"""The latest answer to a question that may take long: a head that does not answer holds up no driver."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

PATIENCE = 2.0
"""Seconds for which a new answer is waited for where there is an earlier one."""

T = TypeVar("T")


class Latest(Generic[T]):
    """Asks in a thread, one question at a time; where the answer takes long, returns the last one. For one caller."""

    def __init__(self, ask: Callable[[], T]) -> None:
        """Ask nothing yet; the first answer is waited for, however long it takes."""
        self._ask = ask
        self._known: list[T] = []
        self._asked: Future[T] | None = None

    def __call__(self) -> T:
        """Return the answer, or the last one.

        Raises:
            Exception: what the question has raised.
        """
        patience: float | None = 0.0
        if self._asked is None:
            self._asked, patience = Future(), PATIENCE
            threading.Thread(target=self._answer, args=(self._asked,), name="question", daemon=True).start()
        asked = self._asked
        try:
            asked.exception(timeout=patience if self._known else None)
        except TimeoutError:
            return self._known[0]
        self._asked = None
        self._known = [asked.result()]
        return self._known[0]

    def _answer(self, asked: Future[T]) -> None:
        try:
            answer = self._ask()
        except BaseException as error:
            asked.set_exception(error)
        else:
            asked.set_result(answer)
