"""A teacher that cannot be prepared: the rest of the search is done, one line says so, and the same command goes on."""

import shutil
from pathlib import Path

import pytest
import yaml

from supersnn.errors import ExternalError
from tests.support import invariants
from tests.support.cli import run
from tests.support.records import events
from tune.search.search import Search


def fail(*_: object) -> None:
    raise ValueError("expected 3 channels")


def arms(tiny: Path) -> Path:
    """Give a sweep an arm with a teacher, and one without."""
    plain = yaml.safe_load(tiny.read_text(encoding="utf-8"))
    plain |= {
        "arms": {"taught": {"teachers": ["resnet8"]}, "direct": {}},
        "train": {"epochs": 1},
        "verify": {"seeds": 1},
    }
    tiny.write_text(yaml.safe_dump(plain, sort_keys=False), encoding="utf-8")
    return tiny


def test_the_rest_is_done_and_the_same_command_goes_on(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"
    command = ("sweep", arms(tiny), "--local", "--store", store)
    words = "teacher resnet8 could not be prepared: ValueError: expected 3 channels"
    with monkeypatch.context() as patch:
        patch.setattr("tune.execution.prepare.teacher_at", fail)
        with pytest.raises(ExternalError, match=words):
            run(*command)
    (traceback,) = (store / "teachers").glob("resnet8-*-traceback.txt")
    assert "in fail\n" in traceback.read_text(encoding="utf-8")
    journal = store / "sweeps" / "tiny" / "journal.jsonl"
    assert [event["arm"] for event in events(journal, "end")] == ["direct", "direct"]
    run(*command)
    invariants.assert_sweep(store, "tiny")
    assert {event["arm"] for event in events(journal, "verified")} == {"direct", "taught"}


def test_an_arm_that_lacks_trials_has_no_winner_and_no_test(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A teacher that was there for the arm's first trial, and is not when the sweep goes on."""
    store = tmp_path / "store"
    sweep = arms(tiny)
    command = ("sweep", sweep, "--local", "--store", store)
    journal, ledger = (store / "sweeps" / "tiny" / name for name in ("journal.jsonl", "test-ledger.jsonl"))
    ended, told = Search.ended, list[str]()

    def interrupted(search: Search, key: str, end: str) -> None:
        ended(search, key, end)
        told.append(key)
        if key == "taught/0":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Search, "ended", interrupted)
        with pytest.raises(AssertionError, match="interrupted; run the same command"):
            run(*command)
    assert "taught/0" in told
    for part in ("teachers", "banks"):
        shutil.rmtree(store / part)
    with monkeypatch.context() as patch:
        patch.setattr("tune.execution.prepare.teacher_at", fail)
        with pytest.raises(ExternalError, match="teacher resnet8 could not be prepared"):
            run(*command)
    assert {event["arm"] for event in events(journal, "winner")} == {"direct"}
    assert "taught" not in ledger.read_text(encoding="utf-8")
    assert "verify direct/" in ledger.read_text(encoding="utf-8")
    run(*command)
    invariants.assert_sweep(store, "tiny")
    assert [event["arm"] for event in events(journal, "winner")].count("taught") == 1
