"""One tiny sweep in process: from its file to its report, on again, and further."""

import json
import time
from pathlib import Path

import invariants
import pytest
from typer.testing import CliRunner

from supersnn import test_set
from supersnn_cli import app
from tune.journal import read


def run(*arguments: str | Path) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_sweep_from_its_file_to_its_report(tiny: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    first = json.loads(run("sweep", tiny, "--local", "--store", store, "--json"))
    invariants.assert_sweep(store, "tiny")
    assert {arm: told["trials"] for arm, told in first["arms"].items()} == {
        "direct": 2,
        "homogeneous": 2,
        "heterogeneous": 2,
    }
    assert [(v["a"], v["b"]) for v in first["verdicts"]] == [
        ("heterogeneous", "homogeneous"),
        ("homogeneous", "direct"),
        ("heterogeneous", "direct"),
    ]
    journal = store / "sweeps" / "tiny" / "journal.jsonl"
    before = journal.read_bytes()

    started = time.monotonic()
    assert json.loads(run("sweep", tiny, "--local", "--store", store, "--json")) == first
    assert time.monotonic() - started < 10
    assert journal.read_bytes() == before

    for place in (store / "sweeps" / "tiny" / "tracking").glob("*.json"):
        place.unlink()
    run("sweep", tiny, "--local", "--store", store)
    invariants.assert_sweep(store, "tiny")
    assert list((store / "sweeps" / "tiny" / "tracking").glob("*.json"))
    assert journal.read_bytes() == before

    run("sweep", tiny, "--local", "--store", store, "--set", "search.trials=3", "--set", "verify.seeds=3")
    invariants.assert_sweep(store, "tiny")
    assert journal.read_bytes().startswith(before)

    exported = store / "sweeps" / "tiny" / "best" / "heterogeneous"
    again = json.loads(run("train", exported / "config.yaml", "--store", tmp_path / "another", "--json"))
    metrics = json.loads((exported / "metrics.json").read_text(encoding="utf-8"))
    assert again["val_accuracy"] == metrics["val_accuracy"]
    assert again["ended"] == "finished"


def test_no_search_opens_the_test_images(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the only door locked, the whole search runs; the verification is the first to knock."""

    class LockedError(Exception):
        pass

    def locked(*_: object) -> None:
        raise LockedError

    monkeypatch.setattr(test_set, "open_test", locked)
    monkeypatch.setattr("tune.outcome.final_runs.open_test", locked)
    with pytest.raises(LockedError):
        run("sweep", tiny, "--local", "--store", tmp_path / "store")
    events = [event for event, _ in read(tmp_path / "store" / "sweeps" / "tiny" / "journal.jsonl")]
    assert sum(event["event"] == "end" for event in events) == 6
    assert not (tmp_path / "store" / "sweeps" / "tiny" / "test-ledger.jsonl").exists()
