"""Answers that take long: the last one is returned meanwhile."""

import threading
import time

import pytest

from tune.execution import latest
from tune.execution.latest import Latest


class Head:
    """Answers with growing numbers, while it is not away."""

    def __init__(self) -> None:
        self.here, self.asked = threading.Event(), 0
        self.here.set()

    def __call__(self) -> int:
        self.asked += 1
        self.here.wait(10)
        return self.asked


def test_a_head_that_is_away_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latest, "PATIENCE", 0.2)
    head = Head()
    ask = Latest(head)
    assert [ask(), ask()] == [1, 2]
    head.here.clear()
    began = time.monotonic()
    assert [ask() for _ in range(50)] == [2] * 50
    assert time.monotonic() - began < 1, "it is waited for once"
    assert head.asked == 3, "one question at a time"
    head.here.set()
    while ask() == 2:
        assert time.monotonic() - began < 5
    assert ask() >= 4


def test_the_first_answer_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latest, "PATIENCE", 0.0)
    head = Head()
    head.here.clear()
    threading.Timer(0.3, head.here.set).start()
    assert Latest(head)() == 1


def test_what_the_question_raises_is_raised() -> None:
    answers = iter([1])
    ask = Latest(lambda: next(answers))
    assert ask() == 1
    with pytest.raises(StopIteration):
        ask()
