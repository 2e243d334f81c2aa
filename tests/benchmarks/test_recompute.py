"""RESULTS.md and README.md have what the committed evidence gives, and no other numbers of the method."""

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from benchmarks import arms, method_text
from benchmarks.evidence_file import read_evidence
from benchmarks.method import Findings
from benchmarks.method_text import lead
from benchmarks.recompute import EVIDENCE, SEARCHES, findings, lacking, lines, method, search, sweep_of_arms
from benchmarks.search import FEW, kept, summary
from benchmarks.trainings import Recorded

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "RESULTS.md"


@pytest.fixture(scope="module")
def found() -> Mapping[str, Findings]:
    return findings(Recorded(read_evidence(EVIDENCE / "method.jsonl")))


def between(text: str, begin: str, end: str) -> str:
    return text.partition(begin)[2].partition(end)[0]


def test_every_line_that_the_evidence_gives_is_written() -> None:
    assert lacking(RESULTS) == []


def test_a_wrong_number_is_noticed(tmp_path: Path) -> None:
    wrong, text = tmp_path / "RESULTS.md", RESULTS.read_text(encoding="utf-8")
    changes = {
        "direct |  | 10 | 81.47": "direct |  | 10 | 81.48",
        "| +5.30 | +4.37 … +6.22 |": "| +5.30 | +4.37 … +6.23 |",
        "| gram-heterogeneous | 0.039 | 0.051 |": "| gram-heterogeneous | 0.039 | 0.049 |",
        "| 51.2 | gram-homogeneous | 3.8 |": "| 51.2 | gram-homogeneous | 4.8 |",
        "`cosine` 0.83225": "`cosine` 0.83235",
        "points_ahead_of_optuna **0.259**": "points_ahead_of_optuna **0.269**",
        "choosing took 80 trainings, 0.7 h": "choosing took 90 trainings, 0.7 h",
    }
    for right, other in changes.items():
        assert text.count(right) == 1, right
        text = text.replace(right, other)
    wrong.write_text(text, encoding="utf-8")
    assert len(lacking(wrong)) == len(changes)


def test_the_tables_of_the_method_have_no_other_line() -> None:
    expected = list(method())
    assert sum(line.startswith("| ") and " ± " in line for line in expected) == 2 * 17
    section = between(RESULTS.read_text(encoding="utf-8"), "<!-- method -->", "## Arms over")
    rows = [line.strip() for line in section.splitlines() if re.match(r" *\| (`|[a-z_+]+[-:|]|folder|direct)", line)]
    headings = ("| arm |", "| data set |", "| comparison")
    assert {row for row in rows if not row.startswith(headings)} <= set(expected)


@pytest.mark.parametrize("name", SEARCHES)
def test_the_searches_have_no_other_line(name: str) -> None:
    section = between(RESULTS.read_text(encoding="utf-8"), f"<!-- {name} -->", f"<!-- end of {name} -->")
    assert section.strip().endswith("\n".join(search(name)).strip())


def test_one_family_adjusts_the_same_p_values_over_all_comparisons(found: Mapping[str, Findings]) -> None:
    one = found["folder:data/cifar10-jpeg"]
    table = method_text.one_family(one)
    adjusted = dict(zip(table["a"], table["p"], strict=True))
    assert len(adjusted) == 16
    assert round(adjusted["gram-homogeneous"], 3) == 0.07
    assert (table["p"] >= table["p_flip"]).all()
    own = one.compared()
    assert all(p <= adjusted[arm] + 1e-12 for arm, p in zip(own["a"], own["p"], strict=True))


def test_a_sweep_of_arms_counts_as_soon_as_it_is_packed(tmp_path: Path) -> None:
    for name in ("method.jsonl", "search.jsonl", "search_stock.jsonl"):
        shutil.copyfile(EVIDENCE / name, tmp_path / name)
    assert list(sweep_of_arms(tmp_path)) == []
    folder = tmp_path / "sweep"
    folder.mkdir()
    (folder / "config.yaml").write_text("name: arms\ndataset: {name: digits}\narms: {a: {}}\n", encoding="utf-8")
    (folder / "journal.jsonl").write_text('{"event":"sweep","time":1.0,"driver":"a"}\n', encoding="utf-8")
    arms.keep(folder, tmp_path / "arms")
    packed = list(sweep_of_arms(tmp_path))
    assert packed[0] == "| test accuracy, % (95 % interval over searches) | a |"
    assert set(lines(tmp_path)) >= set(packed)


def test_the_readmes_leads_are_those_of_the_evidence(found: Mapping[str, Findings]) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    words = " ".join(text.split())
    names = {"folder:data/cifar10-jpeg": "gram", "fashion-mnist": "cosine"}
    for data, one in found.items():
        kind = names[data]
        assert one.claimed[0] == f"{kind}-homogeneous"
        for against in ("direct", "shuffled-{}"):
            cells = []
            for teacher in ("homogeneous", "heterogeneous"):
                ahead = lead(one, f"{kind}-{teacher}", against.format(teacher))
                cells.append(f"{ahead.mean:+.2f} ({ahead.low:+.2f} … {ahead.high:+.2f})".replace("-", "−"))
            assert f"| {cells[0]} | {cells[1]} |" in text
        table = method_text.one_family(one)
        p = float(table.loc[table["a"] == f"{kind}-homogeneous", "p"].item())
        assert f"neither lead with the homogeneous teacher passes 0.05 (both p = {p:.3f})" in words
    equal = lead(found["fashion-mnist"], "feature-heterogeneous", "gram-heterogeneous")
    assert f"({equal.mean:+.2f}, {equal.low:+.2f} … {equal.high:+.2f})".replace("-", "−") in words


def test_the_readmes_leads_of_a_search_are_those_of_the_evidence() -> None:
    training, searches = kept(EVIDENCE / "search.jsonl")
    assert training is not None
    notes = summary("search", FEW, training, searches).notes
    ends = []
    for side in ("random", "optuna"):
        low, high = re.findall(r"[+-]\d+\.\d\d", str(notes[f"ahead of {side} at the end"]))[1:]
        ends.append(f"{low} … {high} points")
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"| {' / '.join(ends)} | `python -m benchmarks.search " in text
    assert f"16 full trainings of {training:.1f} s" in text


def test_what_is_said_of_the_arms_is_what_the_sweep_found() -> None:
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    table = [line for line in sweep_of_arms() if line.startswith("| ")]
    for dataset, name in (
        ("digits", "digits"),
        ("fashion-mnist", "Fashion-MNIST"),
        ("cifar10", "CIFAR-10's images (JPEG)"),
    ):
        (row,) = [line for line in table if line.startswith(f"| {dataset} | ") and " − " not in line]
        assert row.replace(f"| {dataset} |", f"| {name} |") in text
    rows = {(row["dataset"], row["a"], row["b"]): row for row in arms.kept()["verdicts"]}
    assert [key for key, row in rows.items() if row["verdict"] != "no difference found"] == [
        ("cifar10", "homogeneous", "direct")
    ]

    def written(row: Mapping[str, Any]) -> list[str]:
        ends = (100 * row[name] for name in ("difference", "low", "high"))
        return [f"{value:.2f}".replace("-", "−") for value in ends]

    gain, low, high = written(found := rows["cifar10", "homogeneous", "direct"])
    assert f"gains {gain} points ({low} … {high}, p = {found['p']:.3f} by Holm)" in text
    gain, *_ = written(found := rows["overall", "homogeneous", "direct"])
    assert f"its gain is {gain} points and not established (p = {found['p']:.3f})" in text
    gain, low, high = written(rows["overall", "heterogeneous", "homogeneous"])
    assert f"heterogeneous − homogeneous {gain}, {low} … +{high}" in text
