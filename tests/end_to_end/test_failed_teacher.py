"""A teacher that cannot be prepared: the rest of the search is done, one line says so, and the same command goes on."""

from pathlib import Path

import pytest
import yaml

from supersnn.errors import ExternalError
from tests.support import invariants
from tests.support.cli import run
from tests.support.records import events


def fail(*_: object) -> None:
    raise ValueError("expected 3 channels")


def test_the_rest_is_done_and_the_same_command_goes_on(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"
    plain = yaml.safe_load(tiny.read_text(encoding="utf-8"))
    plain |= {
        "arms": {"taught": {"teachers": ["resnet8"]}, "direct": {}},
        "train": {"epochs": 1},
        "verify": {"seeds": 1},
    }
    tiny.write_text(yaml.safe_dump(plain, sort_keys=False), encoding="utf-8")
    command = ("sweep", tiny, "--local", "--store", store)
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
