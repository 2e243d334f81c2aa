"""A sweep whose workers have nothing but an address: afterwards the driver's store is complete."""

import json
from pathlib import Path

import pytest

from analysis import load, report
from supersnn.errors import UserError
from tests.support import invariants
from tests.support.cli import run_json
from tune.description import sweep as sweeps
from tune.object_store import ObjectStore
from tune.store import Store
from tune.terminal.launch import launch


def run(file: Path, store: Store, *changed: str) -> None:
    """Run a sweep without Ray; no trial is stopped; trainings have the address, and a copy of their own."""
    described = sweeps.load(file, ("search.scheduler=none", *changed))
    done = launch(described, store, str(file), local=True)
    report.write_html([load.sweep(done.folder.path)], done.folder.report)


def test_a_sweep_moves_to_an_object_store_and_its_results_are_copied_back(
    tiny: Path, tmp_path: Path, s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUPERSNN_SCRATCH", str(tmp_path / "scratch"))
    run(tiny, Store(tmp_path / "store"), "search.trials=1", "verify.seeds=1")
    teachers = {path: path.read_bytes() for path in (tmp_path / "store" / "teachers").glob("*/*")}
    store = Store(tmp_path / "store", s3)
    run(tiny, store)
    assert teachers == {path: path.read_bytes() for path in (tmp_path / "store" / "teachers").glob("*/*")}
    invariants.assert_sweep(store.path, "tiny")
    assert not [name for name, _ in ObjectStore(s3).names("sweeps", recursive=True) if "checkpoint-" in name]
    assert {path.name for path in (tmp_path / "scratch").glob("*/*")} == {"teachers", "banks", "sweeps"}
    assert not [path for path in (tmp_path / "scratch").glob("*/sweeps/**/*") if path.is_file()]

    with pytest.raises(UserError, match="belongs to another store"):
        run(tiny, Store(tmp_path / "other", s3))

    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr("supersnn.teachers._train", None)
    winner = json.loads(store.sweep("tiny").verified.read_text())["arms"]["homogeneous"]["trial"]
    options = ("--trial", f"homogeneous/{1 - winner}", "--to", tmp_path / "export", "--store", store.path)
    assert run_json("export", "tiny", *options)["reproduced"]
