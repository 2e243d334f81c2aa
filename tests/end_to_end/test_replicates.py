"""Replicates on several data sets from the command line: run, extended, moved, exported; in process and on Ray."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import invariants
from tests.support.cli import invoke, run, run_json
from tests.support.records import events

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


def changed(config: Path, **keys: Any) -> Path:
    plain = yaml.safe_load(config.read_text(encoding="utf-8")) | keys
    config.write_text(yaml.safe_dump(plain, sort_keys=False), encoding="utf-8")
    return config


@pytest.mark.parametrize("options", [("--local",), ()], ids=["in process", "on Ray"])
def test_a_sweep_is_given_replicates_data_sets_and_trials(
    options: tuple[str, ...], replicated: Path, tmp_path: Path
) -> None:
    """What has been done is done once, and belongs to the first replicate on the first data set."""
    store, both = tmp_path / "store", yaml.safe_load(replicated.read_text(encoding="utf-8"))["datasets"]
    steps: list[dict[str, Any]] = [
        {"datasets": {"many": both["many"]}, "replicates": 1, "search": {"trials": 1}, "verify": {"seeds": 1}},
        {"replicates": 2},
        {"datasets": both},
        {"search": {"trials": 2}, "verify": {"seeds": 2}},
    ]
    journal = store / "sweeps" / "tiny" / "journal.jsonl"
    for number, step in enumerate(steps):
        before = journal.read_bytes() if journal.exists() else b""
        run("sweep", changed(replicated, **step), "--store", store, *options)
        assert journal.read_bytes().startswith(before)
        invariants.assert_sweep(store, "tiny")
        if number == 1:  # moved between two drivers
            store = Path(shutil.move(store, tmp_path / "moved"))
            journal = store / "sweeps" / "tiny" / "journal.jsonl"
    status = run_json("status", "tiny", "--store", store)[0]
    assert {label: list(one["arms"]) for label, one in status["datasets"].items()} == {
        label: ["direct", "homogeneous"] for label in ("many", "few")
    }
    exported = run_json("export", "tiny", "--store", store, "--dataset", "few", "--to", tmp_path / "few")
    card = (tmp_path / "few" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert exported["arm"] in card
    assert "(of 2, counted from 0)" in card


def test_no_trial_starts_before_its_own_teacher_is_ready_and_none_waits_for_another(
    replicated: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    run("sweep", replicated, "--store", store, "--local")
    taught: set[tuple[str, int]] = set()
    early = 0
    for event in events(store / "sweeps" / "tiny" / "journal.jsonl"):
        place = event.get("dataset", ""), event.get("replicate", 0)
        if event["event"] == "bank":
            taught.add(place)
        elif event["event"] == "start":
            assert event["arm"] == "direct" or place in taught
            early += len(taught) < 6
    assert early > 6


def test_removed_data_sets_and_changed_variation_are_one_line(replicated: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    small = {"replicates": 1, "search": {"trials": 1}, "verify": {"seeds": 1}}
    run("sweep", changed(replicated, **small), "--store", store, "--local")
    for keys, words in [({"datasets": ["few"]}, "datasets: many, few before"), ({"vary": ["search"]}, "vary: ")]:
        other = tmp_path / "other.yaml"
        plain = yaml.safe_load(replicated.read_text(encoding="utf-8")) | keys
        other.write_text(yaml.safe_dump(plain), encoding="utf-8")
        refused = invoke("sweep", other, "--store", store, "--local")
        assert refused.exit_code == 2
        assert words in refused.stderr
        assert len(refused.stderr.strip().splitlines()) == 1
    assert json.loads((store / "sweeps" / "tiny" / "verified.json").read_text(encoding="utf-8"))["arms"].keys() == {
        *("direct", "homogeneous", "direct~few~0", "homogeneous~few~0")
    }
