"""Shared code of the benchmarks: repeats, and the form of a result."""

import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.common import Result, around_section, interleaved, lead_of, main, spread, write_section

ROOT = Path(__file__).parents[2]


def test_the_sides_take_turns_and_the_warm_up_does_not_count() -> None:
    calls: list[str] = []

    def slow() -> None:
        calls.append("b")
        time.sleep(0.002)

    sides: dict[str, Callable[[], object]] = {"a": lambda: calls.append("a"), "b": slow}
    seconds = interleaved(sides, repeats=3, warm_up=2)
    assert calls == ["a", "b"] * 5
    assert len(seconds["a"]) == len(seconds["b"]) == 3
    assert min(seconds["b"]) >= 0.002 > max(seconds["a"])


def test_the_median_and_the_quartiles() -> None:
    assert spread([5.0, 1.0, 3.0, 2.0, 4.0]) == (3.0, 2.0, 4.0, 5)
    assert spread([7.0]) == (7.0, 7.0, 7.0, 1)


def test_a_lead_is_in_points_with_students_interval() -> None:
    ahead = lead_of([0.5, 0.6, 0.7], [0.4, 0.4, 0.4])
    assert ahead.mean == pytest.approx(20)
    assert ahead.high - ahead.mean == pytest.approx(4.303 * 10 / 3**0.5, rel=1e-3)
    assert str(ahead) == "+20.00 points [-4.84, +44.84]"


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


def test_only_the_section_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "RESULTS.md"
    path.write_text("before\n<!-- a -->\nold\n<!-- end of a -->\nafter\n")
    write_section(path, "a", ["new"])
    write_section(path, "a", ["newer"])
    assert path.read_text() == "before\n<!-- a -->\n\nnewer\n\n<!-- end of a -->\nafter\n"
    with pytest.raises(SystemExit, match="end of b"):
        write_section(path, "b", [])
    with pytest.raises(SystemExit, match=r"none\.md: No such file"):
        write_section(tmp_path / "none.md", "a", [])


def test_a_missing_section_is_refused_before_measuring(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "RESULTS.md"
    path.write_text("<!-- other -->\n<!-- end of other -->")
    monkeypatch.setattr("sys.argv", ["some", "--write", str(path)])
    with pytest.raises(SystemExit, match="end of some"):
        main("some", lambda _quick: pytest.fail("it measured"))


def test_the_results_have_a_section_for_each_benchmark() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    measured, searches = re.findall(r"^(?:BENCHMARKS|SEARCHES) +:= (.+)$", makefile, re.MULTILINE)
    for name in (*measured.split(), *searches.split(), "method", "sides", "arms"):
        around_section(ROOT / "benchmarks" / "RESULTS.md", name)


def test_a_result_is_written_with_what_it_was_measured_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "RESULTS.md"
    path.write_text("<!-- some -->\n<!-- end of some -->")
    monkeypatch.setattr("sys.argv", ["some", "--write", str(path)])
    main("some", lambda _quick: Result("some", "s", {"ratio": 2.0}, {"ours": spread([1.0, 2.0])}))
    text = path.read_text()
    assert "    python -m benchmarks.some" in text
    assert "| ours | 1.5 | 1.25 … 1.75 | 2 |" in text
    assert "ratio **2.000**" in text
    assert "cores" in text
    assert "load" in text
