"""Damaged files of a sweep's folder: a report is made of the rest, and no figure changes without a problem."""

import codecs
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from analysis import journal, load, report
from supersnn.errors import UserError

Write = Callable[..., Path]
FILES = ("config.yaml", "journal.jsonl", "verified.json", "test-ledger.jsonl")
CACHE = ("cache/state.json", "cache/epochs.parquet", "cache/digests.json")
DAMAGES: dict[str, Callable[[bytes], bytes | None]] = {
    "empty": lambda _: b"",
    "garbage": lambda _: bytes(range(256)),
    "half": lambda content: content[: len(content) // 2],
    "fewer lines": lambda content: b"".join(content.splitlines(keepends=True)[:-3]),
    "Latin-1": lambda content: content[:60] + "é".encode("latin-1") + content[60:],
    "BOM": lambda content: codecs.BOM_UTF8 + content,
    "a list": lambda _: b"[]\n",
    "a number": lambda _: b"5\n",
    "a bit": lambda content: content[:-40] + bytes([content[-40] ^ 1]) + content[-39:],
    "missing": lambda _: None,
}


@pytest.fixture
def folder(synthetic: Write, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(journal, "CACHE_STEP", 1)
    return synthetic(trials=4, epochs=2, seeds=5, schema=2)


def figures(folder: Path) -> dict[str, Any]:
    """Return the results, printed as text, JSON and CSV."""
    sweep = load.sweep(folder)
    results = report.results(sweep)
    json.dumps(results, allow_nan=False)
    assert report.table(results)
    list(report.verdict_tables(results))
    return results


def without_record(results: dict[str, Any]) -> dict[str, Any]:
    return {key: results[key] for key in ("arms", "verdicts", "answer", "dataset", "failed_final_runs")}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_a_problem_line(folder: Path, name: str, damage: str) -> None:
    before = figures(folder)
    assert before["problem_lines"] == []
    content = DAMAGES[damage]((folder / name).read_bytes())
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    after = figures(folder)
    assert all("\n" not in line for line in after["problem_lines"])
    assert without_record(after) == without_record(before) or after["problem_lines"]
    if damage in ("empty", "garbage", "half", "a list", "a number"):
        assert any(name in line or "journal" in line for line in after["problem_lines"])


@pytest.mark.parametrize("name", [*FILES, *CACHE])
def test_a_folder_in_a_files_place(folder: Path, name: str) -> None:
    before = figures(folder)
    (folder / name).unlink()
    (folder / name).mkdir()
    after = figures(folder)
    assert without_record(after) == without_record(before) or after["problem_lines"]
    assert bool(after["problem_lines"]) is (name not in CACHE)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", CACHE)
def test_a_damaged_cache_changes_nothing(folder: Path, name: str, damage: str) -> None:
    before = figures(folder)
    content = DAMAGES[damage]((folder / name).read_bytes())
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    assert figures(folder) == before


def test_without_a_cache_where_none_can_be_written(folder: Path) -> None:
    (folder / "cache").write_text("not a folder")
    assert figures(folder)["problem_lines"] == []


VALUES: tuple[Any, ...] = (None, True, -1, 0, 10**30, "x", "", [], [1], {}, {"a": 1})


def _places(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place, *(below for key, item in inner for below in _places(item, (*place, key)))]


def _changed(document: Any, place: tuple[Any, ...], value: Any) -> Any:
    if not place:
        return value
    holder = document
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = value
    return document


@pytest.mark.parametrize("name", FILES)
def test_values_of_a_wrong_type(folder: Path, name: str) -> None:
    before, content = figures(folder), (folder / name).read_text()
    rng = random.Random(0)
    for _ in range(16):
        if name == "config.yaml":
            document = yaml.safe_load(content)
            document = _changed(document, rng.choice(_places(document)), rng.choice(VALUES))
            (folder / name).write_text(yaml.safe_dump(document, sort_keys=False))
        else:
            lines = [json.loads(line) for line in content.splitlines()]
            number = rng.randrange(len(lines))
            lines[number] = _changed(lines[number], rng.choice(_places(lines[number])), rng.choice(VALUES))
            (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
        after = report.results(load.sweep(folder, cache=False))
        same = without_record(after) | {"arms": _plain(after)} == without_record(before) | {"arms": _plain(before)}
        assert same or after["problem_lines"], (folder / name).read_text()


def _plain(results: dict[str, Any]) -> dict[str, Any]:
    """Return the arms without the cost in hours, which follows from `resources` alone."""
    return {name: {**arm, "cpu_s": 0, "gpu_s": 0} for name, arm in results["arms"].items()}


@pytest.mark.parametrize(("place", "value", "text"), [
    (("arms",), 5, "config.yaml: arms: expected a mapping, found int: left out"),
    (("search", "constraints"), {"spikes/rate": "x"}, "search.constraints.spikes/rate: expected a number, found str"),
    (("verify", "seeds"), "ten", "config.yaml: verify.seeds: expected a whole number, found str"),
    (("dataset",), [], "config.yaml: dataset: expected a mapping, found list"),
    (("space", "neuron.decay"), "default", "space.neuron.decay: expected a mapping, found str"),
])  # fmt: skip
def test_a_sweep_file_with_wrong_types_names_the_key(
    folder: Path, place: tuple[str, ...], value: Any, text: str
) -> None:
    config = yaml.safe_load((folder / "config.yaml").read_text())
    (folder / "config.yaml").write_text(yaml.safe_dump(_changed(config, place, value), sort_keys=False))
    assert any(text in line for line in figures(folder)["problem_lines"])


def test_events_with_values_that_no_driver_writes_are_left_out(folder: Path) -> None:
    before = figures(folder)
    start = json.loads(next(line for line in (folder / "journal.jsonl").read_text().splitlines() if "start" in line))
    for changed, text in (
        ({"trial": -1}, "trial: expected at least 0"),
        ({"trial": 10**30}, "trial: expected a smaller number"),
        ({"config": {"student.architecture": 5}}, "config.student.architecture: expected text, found int"),
        ({"params": {"neuron.decay": [1]}}, "params.neuron.decay: expected text or a finite number"),
    ):
        with (folder / "journal.jsonl").open("r+") as file:
            content = file.read()
            file.write(json.dumps(start | {"trial": 99} | changed) + "\n")
        after = figures(folder)
        assert without_record(after) == without_record(before)
        assert any(text in line for line in after["problem_lines"])
        (folder / "journal.jsonl").write_text(content)


def test_a_ledger_with_fewer_lines_than_tests_is_reported(folder: Path) -> None:
    ledger = folder / "test-ledger.jsonl"
    ledger.write_text("".join(ledger.read_text().splitlines(keepends=True)[1:]))
    lines = figures(folder)["problem_lines"]
    assert lines == ["test-ledger.jsonl: 14 openings of the test images, but the journal has 15 tested final runs"]


def test_final_runs_without_the_choice_of_their_winner_are_reported(folder: Path) -> None:
    journal = folder / "journal.jsonl"
    lines = journal.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if not ('"event":"winner"' in line and '"arm":"direct"' in line)]
    assert len(kept) == len(lines) - 1
    journal.write_text("\n".join(kept) + "\n", encoding="utf-8")
    found = load.sweep(folder, cache=False).problems
    lacking = found[found["problem"].str.contains("no winner in the journal")]
    assert lacking["arm"].tolist() == ["direct"]


def test_places_that_cannot_be_written_are_one_line(folder: Path, tmp_path: Path) -> None:
    sweep = load.sweep(folder)
    (tmp_path / "file").write_text("")
    for place in (tmp_path, tmp_path / "file" / "x"):
        with pytest.raises(UserError, match=r"cannot be written: .*; name a place that can be written to"):
            report.write_html([sweep], place)
    for write in (report.write_csv, report.write_parquet):
        with pytest.raises(UserError, match=r"cannot be written: Not a directory|cannot be written: File exists"):
            write(sweep, tmp_path / "file")
