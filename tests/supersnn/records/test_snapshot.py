"""A saved state is used only where it belongs to the journal, and changes nothing but the time that reading takes."""

import json
from pathlib import Path

import pytest

from supersnn.records import snapshot
from supersnn.records.events import AnyEvent, SweepStarted
from supersnn.records.journal import Journal
from supersnn.records.state import SweepState


@pytest.fixture
def journal(tmp_path: Path, events: list[AnyEvent]) -> tuple[Path, list[int]]:
    """Return a journal's path, and its length after each event."""
    path, lengths = tmp_path / "journal.jsonl", []
    journal = Journal(path)
    for event in events:
        journal.append(event)
        lengths.append(journal.offset)
    journal.close()
    return path, lengths


def test_from_any_snapshot_the_state_is_the_same(
    journal: tuple[Path, list[int]], events: list[AnyEvent], tmp_path: Path
) -> None:
    path, lengths = journal
    saved = tmp_path / "state.json"
    complete, length, read = snapshot.current_state(saved, path, {})
    assert (length, read) == (lengths[-1], lengths[-1])
    for count, offset in enumerate(lengths, start=1):
        part = SweepState()
        for event in events[:count]:
            part.apply(event)
        snapshot.save(saved, path, offset, part)
        assert snapshot.load(saved, path) == (part, offset)
        state, length, read = snapshot.current_state(saved, path, {})
        assert state == complete
        assert (length, read) == (lengths[-1], lengths[-1] - offset)


@pytest.mark.parametrize("damage", ["missing", "torn", "version", "other journal", "shorter journal"])
def test_a_snapshot_that_does_not_belong_is_not_used(
    journal: tuple[Path, list[int]], damage: str, tmp_path: Path
) -> None:
    path, lengths = journal
    saved = tmp_path / "state.json"
    state, length, _ = snapshot.current_state(saved, path, {})
    snapshot.save(saved, path, length, state)
    content = saved.read_bytes()
    if damage == "missing":
        saved.unlink()
    elif damage == "torn":
        saved.write_bytes(content[: len(content) // 2])
    elif damage == "version":
        saved.write_text(json.dumps({**json.loads(content), "version": "another"}))
    elif damage == "other journal":
        path.write_bytes(path.read_bytes().replace(b'"driver":"one"', b'"driver":"two"'))
    else:
        path.write_bytes(path.read_bytes()[: lengths[5]])
    assert snapshot.load(saved, path) is None
    assert snapshot.current_state(saved, path, {})[1] == path.stat().st_size


def test_constraints_are_those_of_the_snapshot_or_the_given_ones(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append(SweepStarted(driver="one"))
    journal.close()
    state, length, _ = snapshot.current_state(tmp_path / "state.json", tmp_path / "journal.jsonl", {"spikes/rate": 0.5})
    assert state.constraints == {"spikes/rate": 0.5}
    snapshot.save(tmp_path / "state.json", tmp_path / "journal.jsonl", length, state)
    again = snapshot.load(tmp_path / "state.json", tmp_path / "journal.jsonl")
    assert again is not None
    assert again[0].constraints == {"spikes/rate": 0.5}
