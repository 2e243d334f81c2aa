"""The repeats and the form of a benchmark's result."""

import json
import time

import pytest

from benchmarks.common import Result, interleaved, main, spread


def test_the_sides_take_turns_and_the_warm_up_does_not_count() -> None:
    calls: list[str] = []
    sides = {"a": lambda: calls.append("a"), "b": lambda: (calls.append("b"), time.sleep(0.002))}
    seconds = interleaved(sides, repeats=3, warm_up=2)
    assert calls == ["a", "b"] * 5
    assert len(seconds["a"]) == len(seconds["b"]) == 3
    assert min(seconds["b"]) >= 0.002 > max(seconds["a"])


def test_the_median_and_the_quartiles() -> None:
    assert spread([5.0, 1.0, 3.0, 2.0, 4.0]) == (3.0, 2.0, 4.0, 5)
    assert spread([7.0]) == (7.0, 7.0, 7.0, 1)


def test_with_json_one_document_is_printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def measure(quick: bool) -> Result:
        return Result("some", "s", {"ratio": 2.0}, {"ours": spread([1.0, 2.0])}, {"quick": quick})

    monkeypatch.setattr("sys.argv", ["some", "--json", "--quick"])
    main("some", measure, peers=("no-such-package",))
    document = json.loads(capsys.readouterr().out)
    assert document["ratios"] == {"ratio": 2.0}
    assert document["measured"]["ours"] == {"median": 1.5, "low": 1.25, "high": 1.75, "repeats": 2}
    assert document["notes"] == {"quick": True}
    assert document["versions"]["no-such-package"] is None
    assert document["machine"]["cores"] >= 1
