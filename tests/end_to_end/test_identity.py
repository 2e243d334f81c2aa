"""What belongs together in real sweeps in process: studies, journal, configuration, results and exports."""

import errno
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import yaml
from typer.testing import Result

from supersnn_cli import exit_code
from tests.support import invariants
from tests.support.cli import invoke, run, run_json
from tests.support.records import events

SWEEP: dict[str, Any] = {
    "name": "one",
    "dataset": {"name": "digits", "images": 300},
    "student": {"architecture": "resnet8"},
    "train": {"epochs": 2, "batch_size": 32},
    "arms": {"direct": {}},
    "space": {"neuron.threshold": {"uniform": [0.3, 1.0]}, "optimizer.lr": "default"},
    "search": {"trials": 2, "scheduler": "none"},
    "verify": {"seeds": 2},
}


def written(folder: Path, **changes: Any) -> Path:
    file = folder / "sweep.yaml"
    file.write_text(yaml.safe_dump(SWEEP | changes), encoding="utf-8")
    return file


def failed(result: Result, code: int, words: str) -> None:
    """Assert that a command has failed as the user's mistake (2) or a failed check (1), in one line."""
    assert isinstance(result.exception, Exception), result.output
    assert exit_code(result.exception) == code, result.exception
    assert words in str(result.exception)
    assert "\n" not in str(result.exception)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a sweep's file and a store in which it has ended."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "SUPERSNN_OPTUNA_STORAGE", "SUPERSNN_STORE"):
            patch.delenv(name, raising=False)
        run("sweep", written(folder), "--local", "--store", folder / "store")
        yield folder


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(finished, tmp_path / "copy")
    return tmp_path / "copy"


def test_a_database_lost_in_the_middle_changes_nothing(folder: Path, tmp_path: Path) -> None:
    twin, more = tmp_path / "twin", ("--set", "search.trials=4", "--set", "verify.seeds=1")
    shutil.copytree(folder / "store", twin)
    (folder / "store" / "optuna.db").unlink()
    result = run("sweep", folder / "sweep.yaml", "--local", "--store", folder / "store", *more)
    assert "the studies' database lacked trials: rebuilt from the journal (2 trials of direct)" in result.stderr
    run("sweep", folder / "sweep.yaml", "--local", "--store", twin, *more)
    for store in (folder / "store", twin):
        invariants.assert_sweep(store, "one")
    ends = [
        [(event["trial"], event["value"]) for event in events(store / "sweeps" / "one" / "journal.jsonl", "end")]
        for store in (folder / "store", twin)
    ]
    assert ends[0] == ends[1]
    assert len(ends[0]) == 4


def test_another_database_named_in_a_new_shell_is_filled_from_the_journal(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUPERSNN_OPTUNA_STORAGE", f"sqlite:///{tmp_path / 'other.db'}")
    before = events(folder / "store" / "sweeps" / "one" / "journal.jsonl")
    result = run("sweep", folder / "sweep.yaml", "--local", "--store", folder / "store")
    assert "rebuilt from the journal" in result.stderr
    assert "nothing left to do" in result.stderr
    assert events(folder / "store" / "sweeps" / "one" / "journal.jsonl") == before


def test_two_sweeps_of_one_name_in_one_database(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPERSNN_OPTUNA_STORAGE", f"sqlite:///{tmp_path / 'shared.db'}")
    first, second = folder / "store", tmp_path / "second"
    run("sweep", folder / "sweep.yaml", "--local", "--store", first)
    refused = invoke("sweep", folder / "sweep.yaml", "--local", "--store", second)
    failed(refused, 2, "the studies' database has a study 'one/direct' with 2 trials of another sweep")
    assert not list(second.rglob("journal.jsonl"))
    assert not list(second.rglob("config.yaml"))
    run("sweep", folder / "sweep.yaml", "--local", "--store", second, "--set", "name=two", "--set", "verify.seeds=1")
    assert [event["trial"] for event in events(second / "sweeps" / "two" / "journal.jsonl", "end")] == [0, 1]


def test_a_sweep_whose_folder_was_removed_starts_under_another_name(folder: Path) -> None:
    shutil.rmtree(folder / "store" / "sweeps" / "one")
    failed(
        invoke("sweep", folder / "sweep.yaml", "--local", "--store", folder / "store"), 2, "rename the sweep, or let"
    )
    assert not (folder / "store" / "sweeps" / "one" / "journal.jsonl").exists()


def test_a_changed_file_never_continues_a_sweep_whose_configuration_is_gone(folder: Path) -> None:
    config = folder / "store" / "sweeps" / "one" / "config.yaml"
    before = config.read_text(encoding="utf-8")
    config.unlink()
    changed = ("--set", "dataset.images=400")
    failed(
        invoke("sweep", folder / "sweep.yaml", "--local", "--store", folder / "store", *changed),
        2,
        "sweep 'one' already exists with a different configuration",
    )
    run("sweep", folder / "sweep.yaml", "--local", "--store", folder / "store")
    assert config.read_text(encoding="utf-8") == before
    config.write_text(before.replace("images: 300", "images: 400"), encoding="utf-8")
    words = "config.yaml: not the sweep's configuration"
    failed(invoke("export", "one", "--store", folder / "store", "--to", folder / "e"), 1, words)
    assert not (folder / "e").exists()


def test_a_start_that_fails_before_anything_ran_can_be_corrected(folder: Path) -> None:
    arguments = ("sweep", folder / "sweep.yaml", "--local", "--store", folder / "store", "--set", "name=new")
    empty = folder / "images" / "train"
    empty.mkdir(parents=True)
    wrong = invoke(*arguments, "--set", f"dataset={{name: 'folder:{empty.parent}'}}")
    failed(wrong, 2, "images")
    run(*arguments, "--set", "verify.seeds=1")
    invariants.assert_sweep(folder / "store", "new")


def results_of(folder: Path) -> list[Path]:
    return sorted((folder / "store" / "sweeps" / "one" / "verified" / "direct").glob("*/*/result.json"))


def edited(path: Path, **values: Any) -> None:
    plain = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(plain | values), encoding="utf-8")


def foreign(folder: Path) -> None:
    here = results_of(folder)[0].parent
    shutil.copytree(here, here.with_name("7"))


def swap(folder: Path) -> None:
    one, two = (path.with_name("student.safetensors") for path in results_of(folder))
    content = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(content)


def remove_weights(folder: Path) -> None:
    for path in results_of(folder):
        path.with_name("student.safetensors").unlink()


DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "removed": (lambda folder: results_of(folder)[1].unlink(), "missing, but the journal has this result"),
    "edited": (
        lambda folder: edited(results_of(folder)[0], metrics={"val/accuracy": 1.0, "test/accuracy": 1.0}),
        "test/accuracy is 1.0 here and",
    ),
    "of another configuration": (
        lambda folder: edited(results_of(folder)[0], config="0123456789abcdef"),
        "the result of another training",
    ),
    "torn": (lambda folder: results_of(folder)[0].write_text('{"seed": 10'), "damaged: not a JSON object"),
    "foreign": (foreign, "the journal has no such result"),
    "weights of another seed": (swap, "not the weights that were tested"),
    "weights gone": (remove_weights, "student.safetensors: missing"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_an_export_is_of_what_was_measured_or_refused(folder: Path, damage: str) -> None:
    change, words = DAMAGES[damage]
    change(folder)
    failed(invoke("export", "one", "--store", folder / "store", "--to", folder / "e"), 1, words)
    assert not (folder / "e").exists()


def test_a_removed_result_is_replaced_by_continuing_the_sweep(folder: Path) -> None:
    path = results_of(folder)[1]
    before, ledger = path.read_text(encoding="utf-8"), folder / "store" / "sweeps" / "one" / "test-ledger.jsonl"
    openings = ledger.read_text(encoding="utf-8")
    path.unlink()
    run("sweep", folder / "sweep.yaml", "--local", "--store", folder / "store")
    assert json.loads(path.read_text(encoding="utf-8")) == json.loads(before)
    assert ledger.read_text(encoding="utf-8") == openings
    run("export", "one", "--store", folder / "store", "--to", folder / "e")


@pytest.mark.parametrize("content", ["", '{"arms": {"direct": {"tri', "5"])
def test_damaged_results_of_all_arms_are_written_again(folder: Path, content: str) -> None:
    verified = folder / "store" / "sweeps" / "one" / "verified.json"
    before = verified.read_text(encoding="utf-8")
    verified.write_text(content, encoding="utf-8")
    for arguments in (("status", "one"), ("report", "one"), ("export", "one", "--to", folder / "e")):
        run(*arguments, "--store", folder / "store")
    run("sweep", folder / "sweep.yaml", "--local", "--store", folder / "store")
    assert verified.read_text(encoding="utf-8") == before


@pytest.mark.parametrize("garbage", [b"", b"{}\n", b"5\n", b"\xe9t\xe9\n", b"\xef\xbb\xbf"])
def test_a_line_that_is_no_event_stops_nothing(folder: Path, garbage: bytes) -> None:
    journal = folder / "store" / "sweeps" / "one" / "journal.jsonl"
    first, *lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(garbage + first + b"".join(lines))
    for arguments in (("status", "one"), ("report", "one"), ("export", "one", "--to", folder / "e")):
        run(*arguments, "--store", folder / "store")
    assert "nothing left to do" in run("sweep", folder / "sweep.yaml", "--local", "--store", folder / "store").stderr


def readable(journal: Path) -> list[str]:
    """The kinds of the events whose lines can be read."""
    found = []
    for line in journal.read_text(encoding="utf-8").splitlines():
        with suppress(ValueError):
            found.append(json.loads(line)["event"])
    return found


@pytest.mark.parametrize("kind", ["sweep", "data", "teacher", "start", "end", "winner", "verified", "export", "close"])
def test_a_damaged_event_is_recorded_again(folder: Path, kind: str) -> None:
    """What the studies and the results know is not lost with a line of the journal."""
    store = folder / "store"
    arm = "homogeneous" if kind == "teacher" else "direct"
    if kind == "teacher":
        shutil.rmtree(store)
        taught: dict[str, Any] = {"arms": {arm: {"teachers": ["resnet8"]}}, "verify": {"seeds": 1}}
        run("sweep", written(folder, teacher={"epochs": 1, "views": 2}, **taught), "--local", "--store", store)
    journal = store / "sweeps" / "one" / "journal.jsonl"
    before = run_json("report", "one", "--store", store)
    ledger = (journal.parent / "test-ledger.jsonl").read_text(encoding="utf-8")
    lines = journal.read_text(encoding="utf-8").splitlines()
    place = next(n for n, line in enumerate(lines) if line.startswith(f'{{"event":"{kind}"'))
    lines[place] = lines[place][:20] + "#" + lines[place][21:]
    journal.write_text("\n".join(lines) + "\n", encoding="utf-8")
    run("status", "one", "--store", store)
    run("sweep", folder / "sweep.yaml", "--local", "--store", store)
    after = run_json("report", "one", "--store", store)
    assert after["arms"][arm]["verified"] == before["arms"][arm]["verified"]
    assert after["arms"][arm]["best_val"] == before["arms"][arm]["best_val"]
    assert (journal.parent / "test-ledger.jsonl").read_text(encoding="utf-8") == ledger
    run("export", "one", "--store", store, "--to", folder / "e")
    assert kind in readable(journal)
    again = run("sweep", folder / "sweep.yaml", "--local", "--store", store)
    assert "nothing left to do" in again.stderr


def test_a_search_that_found_nothing_says_why_and_fails(tmp_path: Path) -> None:
    constrained = SWEEP["search"] | {"constraints": {"spikes/rate": 1e-9}}
    arguments = ("sweep", written(tmp_path, search=constrained), "--local", "--store", tmp_path / "store")
    words = (
        "direct: no winner: 2 trials: 2 finished, 0 stopped, 0 failed; 0 of 2 finished ones within search.constraints"
    )
    for _ in range(2):
        result = invoke(*arguments)
        assert result.exit_code == 1
        assert words in result.stderr
        assert "Traceback" not in result.output


def test_a_disk_that_fills_after_the_search_loses_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("sweep", folder / "sweep.yaml", "--local", "--store", folder / "store", "--set", "verify.seeds=3")
    full = Mock(side_effect=OSError(errno.ENOSPC, "No space left on device"))
    for where in ("tune.outcome.final_training.checkpoint.save", "tune.outcome.export_folder.write"):
        with monkeypatch.context() as patch:
            patch.setattr(where, full)
            failed(invoke(*arguments), 2, "the disk is full; free some space and rerun the same command")
    run(*arguments)
    invariants.assert_sweep(folder / "store", "one")
