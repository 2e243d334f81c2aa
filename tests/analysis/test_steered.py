"""What the report says of a sweep that people changed while it ran."""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from analysis import load
from analysis.findings import cautions, findings
from analysis.results import results, table
from supersnn.records.events import RequestTaken
from tests.analysis.conftest import START, Synthetic


def with_requests(folder: Path, *taken: dict[str, Any]) -> Path:
    """Write a sweep, and requests behind its trials."""
    path = Synthetic(folder, trials=4, seeds=3).write() or folder
    journal = folder / "journal.jsonl"
    lines = [RequestTaken(id=str(number), **fields).model_dump_json() for number, fields in enumerate(taken)]
    journal.write_text(journal.read_text(encoding="utf-8") + "\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_changes_stand_beside_the_budgets(tmp_path: Path) -> None:
    folder = with_requests(
        tmp_path / "one",
        {"kind": "change", "values": {"search.trials": 8}, "before": {"search.trials": 4}, "by": "ada@lab"},
        {"kind": "change", "values": {"arms.logit": {"teachers": ["vgg8"]}}, "before": {"arms.logit": None}},
        {"kind": "pause", "searches": ["direct"], "time": START},
        {"kind": "change", "values": {"train.epochs": 9}, "refused": "cannot be changed"},
    )
    sweep = load.sweep(folder)
    (sentence,) = [text for text in findings(sweep, pd.DataFrame(results(sweep)["verdicts"])) if "while it ran" in text]
    assert "search.trials was changed from 4 to 8 after 12 trials" in sentence
    assert "arm logit was added after 12 trials" in sentence
    assert "direct paused after 0 trials" in sentence
    assert "train.epochs" not in sentence
    assert "All arms have had as many trials all the same: 4." in sentence
    found = results(sweep)
    assert [row["refused"] for row in found["requests"]] == [None, None, None, "cannot be changed"]
    assert found["requests"][0]["by"] == "ada@lab"
    json.dumps(found)
    assert sentence in found["cautions"]  # a terminal shows these
    assert not any("People gave" in text for text in found["cautions"])


def test_what_changes_more_than_when_trials_run_is_named_first(tmp_path: Path) -> None:
    pauses = [{"kind": kind, "searches": ["direct"]} for _ in range(12) for kind in ("pause", "resume")]
    again = {"kind": "retry", "searches": ["direct"], "trial": 1, "values": {}}
    change = {"kind": "change", "values": {"search.trials": 8}, "before": {"search.trials": 4}}
    sweep = load.sweep(with_requests(tmp_path / "one", *pauses, again, change))
    (sentence,) = [text for text in results(sweep)["cautions"] if "while it ran" in text]
    assert "failed trial direct/1 run again after 12 trials" in sentence
    assert "search.trials was changed from 4 to 8 after 12 trials, and 6 more requests." in sentence
    assert sentence.count("paused") == 9
    assert "trials, without 1 failed one that ran again: " in sentence


def test_an_arm_that_people_favoured_is_marked(tmp_path: Path) -> None:
    asked = {"kind": "enqueue", "searches": ["direct"], "values": {"optimizer.lr": 0.1}}
    sweep = load.sweep(with_requests(tmp_path / "one", asked, {**asked, "values": {"optimizer.lr": 0.2}}))
    found = results(sweep)
    assert {arm: row["given"] for arm, row in found["arms"].items()} == {
        "direct": 2, "homogeneous": 0, "heterogeneous": 0,
    }  # fmt: skip
    assert [row["arm"] for row in table(found)] == ["direct *", "homogeneous", "heterogeneous"]
    (caution,) = [text for text in cautions(sweep, pd.DataFrame(found["verdicts"])) if "People gave" in text]
    assert "direct (2 trials), marked *" in caution
    assert "these arms alone" in caution


def test_arms_that_were_given_as_many_trials_are_not_said_to_differ(tmp_path: Path) -> None:
    arms = ["direct", "homogeneous", "heterogeneous"]
    asked = {"kind": "enqueue", "searches": arms, "values": {"optimizer.lr": 0.1}}
    again = {"kind": "retry", "searches": ["direct"], "trial": 1, "values": {"optimizer.lr": 0.2}}

    def said(name: str, *taken: dict[str, Any]) -> str:
        sweep = load.sweep(with_requests(tmp_path / name, *taken))
        (text,) = [text for text in results(sweep)["cautions"] if "People gave" in text]
        return str(text)

    assert said("equal", asked, again).endswith("went into every arm alike.")
    assert "direct (1 trial), homogeneous (1 trial)" in said("again", asked, again)
    assert "some arms more than into others" in said("more", asked, {**asked, "searches": ["direct"]})
    apart = [{**asked, "searches": [name]} for name in ("direct", "homogeneous~1", "heterogeneous")]
    assert "some arms more than into others" in said("apart", *apart)


def test_a_trial_that_was_run_again_favours_no_arm(tmp_path: Path) -> None:
    again = {"kind": "retry", "searches": ["direct"], "trial": 1, "values": {"optimizer.lr": 0.2}}
    found = results(load.sweep(with_requests(tmp_path / "one", again)))
    assert found["arms"]["direct"]["given"] == 0
    assert not any("People gave" in text for text in found["cautions"])


def test_a_sweep_that_nobody_changed_says_nothing(tmp_path: Path) -> None:
    sweep = load.sweep(with_requests(tmp_path / "one"))
    found = results(sweep)
    assert found["requests"] == []
    assert not any("while it ran" in text for text in findings(sweep, pd.DataFrame(found["verdicts"])))
