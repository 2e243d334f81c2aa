"""One tiny sweep in process: from its file to its report, repeated, and extended."""

import json
from pathlib import Path

import pytest

from supersnn import test_set
from supersnn.errors import ExternalError
from tests.support import invariants
from tests.support.cli import run, run_json
from tests.support.records import events
from tune.execution.local import LocalExecutor


def test_a_sweep_from_its_file_to_its_report(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = tmp_path / "store"
    first = run_json("sweep", tiny, "--local", "--store", store)
    invariants.assert_sweep(store, "tiny")
    assert {arm: summary["trials"] for arm, summary in first["arms"].items()} == {
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
    before = {path: path.read_bytes() for path in (journal, store / "optuna.db", store / "mlflow.db")}

    with monkeypatch.context() as patch:
        patch.setattr(LocalExecutor, "__init__", None)  # any executor that is started is an error
        assert run_json("sweep", tiny, "--local", "--store", store) == first
        assert {path: path.read_bytes() for path in before} == before

    for path in (store / "sweeps" / "tiny" / "tracking").glob("*.json"):
        path.unlink()
    run("sweep", tiny, "--local", "--store", store)
    invariants.assert_sweep(store, "tiny")
    assert list((store / "sweeps" / "tiny" / "tracking").glob("*.json"))
    assert journal.read_bytes() == before[journal]

    run("sweep", tiny, "--local", "--store", store, "--set", "search.trials=3", "--set", "verify.seeds=3")
    invariants.assert_sweep(store, "tiny")
    assert journal.read_bytes().startswith(before[journal])

    exported = store / "sweeps" / "tiny" / "best" / "heterogeneous"
    training = run_json("train", exported / "config.yaml", "--store", tmp_path / "another")
    metrics = json.loads((exported / "metrics.json").read_text(encoding="utf-8"))
    assert training["val_accuracy"] == metrics["val_accuracy"]
    assert training["ended"] == "finished"


def test_no_search_opens_the_test_images(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `open_test` refused, the whole search runs; the verification is the first to fail, in one error."""

    class RefusedError(Exception):
        pass

    def refuse(*_: object) -> None:
        raise RefusedError

    monkeypatch.setattr(test_set, "open_test", refuse)
    monkeypatch.setattr("tune.outcome.final_training.open_test", refuse)
    with pytest.raises(ExternalError, match="failed, and 5 more: RefusedError;"):
        run("sweep", tiny, "--local", "--store", tmp_path / "store")
    assert len(events(tmp_path / "store" / "sweeps" / "tiny" / "journal.jsonl", "end")) == 6
    assert not (tmp_path / "store" / "sweeps" / "tiny" / "test-ledger.jsonl").exists()
