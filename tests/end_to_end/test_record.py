"""One record: every view of a sweep names the same best trials and pairings, also of a journal of schema 1."""

import re
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import invariants
from tests.support.cli import run, run_json
from tests.support.records import events
from tune.description.sweep import SweepConfig

SMALL: dict[str, Any] = {
    "dataset": {"name": "digits", "images": 400, "augment": {"views": 1}},
    "student": {"architecture": "resnet8"},
    "teacher": {"epochs": 1},
    "train": {"epochs": 2, "batch_size": 16},
    "verify": {"seeds": 1},
}
SCHEMA_1 = Path(__file__).parent / "data" / "schema1"
"""A store of journals without a schema number, reduced to configurations, journals and studies.

Both sweeps have two seeds a trial and a constraint on the firing rate. `finished` is done; the driver of `interrupted`
was killed in the second seed of direct/1.
"""


def sweep(tmp_path: Path, config: dict[str, Any]) -> Path:
    """Run a sweep to its end; return its store."""
    file = tmp_path / "sweep.yaml"
    file.write_text(yaml.safe_dump(SMALL | config), encoding="utf-8")
    run("sweep", file, "--local", "--store", tmp_path / "store")
    return tmp_path / "store"


def test_every_view_names_the_same_best_trial_within_the_constraints(tmp_path: Path) -> None:
    """Two accurate trials fire too often, of the others one has learnt something: the best one."""
    tried = [(0.4, 0.05), (1.5, 0.00001), (1.2, 0.02), (0.5, 0.05)]
    config = {
        "name": "constrained",
        "arms": {"direct": {}, "heterogeneous": {"teachers": ["vgg8"], "set": {"loss.relation.weight": 0.01}}},
        "space": {"neuron.threshold": {"uniform": [0.3, 2.0]}, "optimizer.lr": {"log": [0.00001, 0.3]}},
        "search": {
            "trials": len(tried),
            "scheduler": "none",
            "constraints": {"spikes/rate": 0.25},
            "enqueue": [{"neuron.threshold": threshold, "optimizer.lr": lr} for threshold, lr in tried],
        },
    }
    store = sweep(tmp_path, config)
    invariants.assert_sweep(store, "constrained")
    run("report", "constrained", "--store", store, "--html", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    ends = events(store / "sweeps" / "constrained" / "journal.jsonl", "end")
    report = run_json("report", "constrained", "--store", store)["arms"]
    (status,) = run_json("status", "constrained", "--store", store)
    for arm in ("direct", "heterogeneous"):
        values = {end["trial"]: end["value"] for end in ends if end["arm"] == arm}
        assert max(values, key=values.__getitem__) in (0, 3)
        assert (status["arms"][arm]["best_trial"], status["arms"][arm]["best_val"]) == (2, values[2])
        assert (report[arm]["trial"], report[arm]["best_val"]) == (2, values[2])
        assert run_json("export", "constrained", "--arm", arm, "--store", store, "--to", tmp_path / arm)["trial"] == 2
        best, infeasible = f"{100 * values[2]:.2f}", f"{100 * max(values.values()):.2f}"
        row = row_of(page, arm)
        assert best in row
        assert infeasible not in row
        assert f"{arm} {infeasible}" not in text_of(page)  # as the descriptions of figures state the best


def text_of(html: str) -> str:
    """Return the text of a page without its scripts and styles."""
    visible = re.sub(r"<(script|style).*?</\1>", " ", html, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", visible)).strip()


def row_of(page: str, arm: str) -> list[str]:
    """Return the cells of an arm in the first table that has it: the summary of all arms."""
    for row in re.findall(r"<tr\b.*?</tr>", page, flags=re.DOTALL):
        cells = [text_of(cell) for cell in re.findall(r"<t[dh]\b.*?</t[dh]>", row, flags=re.DOTALL)]
        if cells and cells[0] == arm:
            return cells
    raise AssertionError(f"no table has {arm}")


@pytest.mark.slow
def test_every_view_names_the_same_pairing_with_torchvisions_teachers(tmp_path: Path) -> None:
    config = {
        "name": "pairings",
        "arms": {
            "homogeneous": {"teachers": ["torchvision:resnet18"]},
            "heterogeneous": {"teachers": ["vgg8"]},
            "direct": {},
        },
        "space": {"optimizer.lr": "default"},
        "search": {"trials": 1},
        "train": {"epochs": 1},
    }
    store = sweep(tmp_path, config)
    report = run_json("report", "pairings", "--store", store)["arms"]
    starts = {event["arm"]: event for event in events(store / "sweeps" / "pairings" / "journal.jsonl", "start")}
    runs = invariants.mlflow_runs(store, "pairings")
    for arm, pairing, teacher in (
        ("homogeneous", "homogeneous", "resnet"),
        ("heterogeneous", "heterogeneous", "vgg"),
        ("direct", "none", None),
    ):
        assert report[arm]["pairing"] == pairing
        families = starts[arm]["student_family"], starts[arm]["teacher_family"]
        assert (*families, starts[arm]["pairing"]) == ("resnet", teacher, pairing)
        tags = [run.data.tags for run in runs if run.data.tags.get("supersnn.arm") == arm]
        assert {tag["supersnn.level"] for tag in tags} == {"arm", "trial", "verification"}
        assert {tag["supersnn.pairing"] for tag in tags} == {pairing}
        assert {tag["supersnn.student_family"] for tag in tags} == {"resnet"}
        assert {tag.get("supersnn.teacher_family") for tag in tags} == {teacher}


@pytest.fixture
def schema_1(tmp_path: Path) -> Path:
    """A copy of the store of schema 1."""
    store = tmp_path / "store"
    shutil.copytree(SCHEMA_1, store, ignore=shutil.ignore_patterns("*.sql"))
    studies = sqlite3.connect(store / "optuna.db")
    studies.executescript((SCHEMA_1 / "optuna.sql").read_text(encoding="utf-8"))
    studies.close()
    return store


@pytest.mark.parametrize(("name", "trials"), [("finished", 2), ("interrupted", 3)])
def test_status_and_report_of_a_journal_of_schema_1(schema_1: Path, name: str, trials: int) -> None:
    journal = events(schema_1 / "sweeps" / name / "journal.jsonl")
    config = SweepConfig.model_validate(yaml.safe_load((schema_1 / "sweeps" / name / "config.yaml").read_text()))
    (status,) = run_json("status", name, "--store", schema_1)
    report = run_json("report", name, "--store", schema_1)
    assert status["running"] is False
    assert report["complete"] is (name == "finished")
    assert status["ended"] == report["ended"] == ("done" if name == "finished" else None)
    for arm in ("direct", "heterogeneous"):
        best = invariants.best_trial(config, arm, journal)
        assert (status["arms"][arm]["trials"], report["arms"][arm]["best_val"]) == (trials, best[1])
        assert (status["arms"][arm]["best_trial"], status["arms"][arm]["best_val"]) == best
        verified = [event["seed"] for event in journal if event["event"] == "verified" and event["arm"] == arm]
        assert [result["seed"] for result in report["arms"][arm]["verified"]] == verified
        assert report["arms"][arm]["pairing"] == {"direct": "none", "heterogeneous": "heterogeneous"}[arm]


def test_an_interrupted_sweep_of_schema_1_is_continued_to_its_end(schema_1: Path) -> None:
    folder = schema_1 / "sweeps" / "interrupted"
    before = (folder / "journal.jsonl").read_bytes()
    run("sweep", folder / "config.yaml", "--local", "--store", schema_1)
    invariants.assert_sweep(schema_1, "interrupted")
    assert (folder / "journal.jsonl").read_bytes().startswith(before)
    resumed = events(folder / "journal.jsonl")[len(before.splitlines()) :]
    assert [event["resumed"] for event in resumed if event["event"] == "sweep"] == [True]
    started = [(event["arm"], event["trial"]) for event in resumed if event["event"] == "start"]
    assert sorted(started) == [("direct", 1), ("direct", 2), ("heterogeneous", 1), ("heterogeneous", 2)]
