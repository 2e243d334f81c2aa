"""A sweep's trials as a table, and each as a training of its own."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from supersnn.errors import UserError
from tests.end_to_end.conftest import TINY
from tests.support.cli import invoke, run, run_json

SWEEP: dict[str, Any] = {
    **TINY,
    "arms": {"direct": {}, "homogeneous": {"teachers": ["resnet8"]}},
    "dataset": {"name": "digits", "images": 300, "augment": {"views": 1}},
    "train": {"epochs": 2},
    "search": {"trials": 2, "scheduler": "none", "seeds_per_trial": 1},
    "verify": {"seeds": 1},
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a finished sweep."""
    folder = tmp_path_factory.mktemp("trials")
    file = folder / "tiny.yaml"
    file.write_text(yaml.safe_dump(SWEEP), encoding="utf-8")
    run("sweep", file, "--local", "--store", folder / "store")
    return folder / "store"


def test_the_table_of_trials(store: Path, tmp_path: Path) -> None:
    rows = run_json("trials", "tiny", "--store", store)
    assert [(row["arm"], row["trial"]) for row in rows] == [(a, n) for a in ("direct", "homogeneous") for n in (0, 1)]
    assert all(row["state"] == "finished" and row["epochs"] == 2 for row in rows)
    assert rows[0]["teacher"] is None
    assert rows[0]["loss.relation.weight"] is None
    best = run_json("trials", "tiny", "--store", store, "--sort", "-value", "--limit", "1")
    assert best[0]["value"] == max(row["value"] for row in rows)
    of_arm = run_json("trials", "tiny", "--store", store, "--arm", "homogeneous", "--where", "trial=1")
    assert of_arm == [rows[3]]
    assert run_json("trials", "tiny", "--store", store, "--state", "stopped") == []
    shown = run("trials", "tiny", "--store", store, "--csv", tmp_path / "made" / "trials.csv")
    assert shown.stdout == ""
    with (tmp_path / "made" / "trials.csv").open(encoding="utf-8", newline="") as file:
        written = list(csv.DictReader(file))
    assert [float(row["value"]) for row in written] == [row["value"] for row in rows]
    drawn = "".join(run("trials", "tiny", "--store", store).stdout.split())
    assert "hreshold=" in drawn  # the column may be folded
    assert "feasible" not in drawn
    for arguments, fault in (
        (["--arm", "direkt"], "--arm direkt: expected one of direct, homogeneous .did you mean 'direct'"),
        (["--state", "done"], "--state done: expected one of finished, stopped"),
        (["--where", "lr>1"], "--where lr>1: no column 'lr'"),
    ):
        error = invoke("trials", "tiny", "--store", store, *arguments).exception
        assert isinstance(error, UserError)
        with pytest.raises(UserError, match=fault):
            raise error


@pytest.mark.parametrize("trial", ["direct/1", "homogeneous/0"])
def test_a_shown_trial_trains_to_the_same_result(store: Path, tmp_path: Path, trial: str) -> None:
    file = tmp_path / "training.yaml"
    file.write_text(run("show", "tiny", trial, "--store", store).stdout, encoding="utf-8")
    assert file.read_text(encoding="utf-8").startswith(f"# trial {trial} of sweep tiny: finished after 2 epochs")
    shown = run_json("show", "tiny", trial, "--store", store)
    result = run_json("train", file, "--store", store)
    assert result["val_accuracy"] == shown["value"] == shown["metrics"]["val/accuracy"]
    assert result["spike_rate"] == shown["metrics"]["spikes/rate"]
    run("show", "tiny", trial, "--store", store, "--to", tmp_path / "new" / "t.yaml")
    assert (tmp_path / "new" / "t.yaml").read_text(encoding="utf-8") == file.read_text(encoding="utf-8")
    assert yaml.safe_load(file.read_text(encoding="utf-8")) == json.loads(json.dumps(shown["config"]))


def test_a_trial_that_is_not_there(store: Path) -> None:
    for trial, fault in (
        ("direkt/0", "the journal has no arm 'direkt' .did you mean 'direct'"),
        ("direct/7", "direct/7: this arm has had 2 trials, from 0 on"),
        ("direct", "direct: expected ARM/N, as direct/3"),
    ):
        with pytest.raises(UserError, match=fault):
            raise invoke("show", "tiny", trial, "--store", store).exception or AssertionError
