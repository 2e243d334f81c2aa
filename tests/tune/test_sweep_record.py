"""The driver's record: what is written is state at once, listeners come last, and a snapshot keeps openings short."""

from pathlib import Path

import pytest

from supersnn.records import snapshot
from supersnn.records.events import AnyEvent, EpochReported, SweepStarted, TrialStarted
from supersnn.records.journal import read
from tune.store import SweepFolder
from tune.sweep_record import SweepRecord


def fill(record: SweepRecord, epochs: int) -> None:
    record.open()
    record.write(SweepStarted(driver="one"))
    record.write(TrialStarted(arm="a", trial=0, config={"train.epochs": epochs}))
    for epoch in range(1, epochs + 1):
        record.write(EpochReported(arm="a", trial=0, epoch=epoch, metrics={"val/accuracy": 0.5}))
    record.close()


def test_a_listener_finds_the_event_in_state_and_journal(tmp_path: Path) -> None:
    folder, seen = SweepFolder(tmp_path), list[AnyEvent]()
    record = SweepRecord(folder, {})

    def listen(event: AnyEvent) -> None:
        seen.append(event)
        assert record.state.updated == event.time
        assert [written for written, _ in read(folder.journal)][-1] == event

    record.listeners.append(listen)
    fill(record, 2)
    assert [event.event for event in seen] == ["sweep", "start", "epoch", "epoch"]
    assert not folder.snapshot.exists()


def test_a_long_journal_is_opened_from_its_snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = SweepFolder(tmp_path)
    fill(SweepRecord(folder, {}), 10)
    monkeypatch.setattr(snapshot, "INTERVAL", 200)
    record = SweepRecord(folder, {})
    assert not folder.snapshot.exists()  # only a driver writes
    record.open()
    assert snapshot.load(folder.snapshot, folder.journal) == (record.state, folder.journal.stat().st_size)
    record.write(EpochReported(arm="a", trial=0, epoch=11, metrics={}))
    record.close()
    state, _, read_bytes = snapshot.current_state(folder.snapshot, folder.journal, {})
    assert state == record.state
    assert 0 < read_bytes < 200


def test_what_cannot_be_read_is_reported_and_kept(tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path)
    fill(SweepRecord(folder, {}), 1)
    with folder.journal.open("ab") as file:
        file.write(b"garbage\n")
    record = SweepRecord(folder, {})
    assert len(record.state.faults) == 1
    assert record.state.searches["a"].trials[0].epochs == 1
    fill(record, 2)
    assert b"garbage" in folder.journal.read_bytes()
    assert SweepRecord(folder, {}).state.searches["a"].trials[0].epochs == 2
