"""Signs that work advances: its own, and while it waits for another process."""

import time
from pathlib import Path

import pytest
from filelock import FileLock

from supersnn import files
from supersnn.files import locked
from tune.execution.progress import advanced, counting


def test_signs_go_to_whoever_counts_in_this_block() -> None:
    signs: list[str] = []
    advanced()
    with counting(lambda: signs.append("outer")):
        advanced()
        with counting(lambda: signs.append("inner")):
            advanced()
        advanced()
    advanced()
    assert signs == ["outer", "inner", "outer"]


def test_who_waits_for_a_lock_tells_so_until_it_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_ASK_EVERY", 0.02)
    other, waited = FileLock(tmp_path / ".lock"), list[float]()

    def waits() -> None:
        waited.append(time.monotonic())
        if len(waited) == 2:
            other.release()

    other.acquire()
    with locked(tmp_path / ".lock", waits):
        assert len(waited) == 2
    with locked(tmp_path / ".lock"), locked(tmp_path / ".another", waits):
        assert len(waited) == 2
