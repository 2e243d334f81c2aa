"""The journal's file: torn lines, reading from an offset, some kinds only, and lines that are no event."""

from pathlib import Path

from supersnn.records.events import AnyEvent, DatasetSplit, SweepClosed, SweepStarted, TrialEnded
from supersnn.records.journal import Journal, is_torn, read


def write(path: Path, *events: AnyEvent) -> None:
    journal = Journal(path)
    for event in events:
        journal.append(event)
    assert journal.offset == path.stat().st_size
    journal.close()


def test_a_torn_last_line_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    write(path, SweepStarted(driver="one"))
    complete = path.read_bytes()
    assert not is_torn(path)
    path.write_bytes(complete + b'{"event": "close", "en')
    assert is_torn(path)
    assert [event.event for event, _ in read(path)] == ["sweep"]
    write(path, SweepClosed(end="done"))
    assert [event.event for event, _ in read(path)] == ["sweep", "close"]
    offset = next(offset for _, offset in read(path))
    assert offset == len(complete)
    assert [event.event for event, _ in read(path, offset)] == ["close"]
    path.write_bytes(b'{"torn')
    Journal(path).close()
    assert path.read_bytes() == b""


def test_a_missing_journal_is_empty(tmp_path: Path) -> None:
    assert list(read(tmp_path / "journal.jsonl")) == []
    assert not is_torn(tmp_path / "journal.jsonl")


def test_some_kinds_only(tmp_path: Path, events: list[AnyEvent]) -> None:
    path = tmp_path / "journal.jsonl"
    write(path, *events)
    with path.open("ab") as file:
        file.write(b'{"time": 1.0, "event": "close", "end": "failed"}\n')  # keys in another order
    kinds = [event.event for event, _ in read(path, kinds=("sweep", "close"))]
    assert kinds == ["sweep", "close", "close"]
    assert [event for event, _ in read(path)][:-1] == events


def test_lines_that_are_no_event_are_reported_and_left_out(tmp_path: Path, events: list[AnyEvent]) -> None:
    path = tmp_path / "journal.jsonl"
    write(path, *events[:3])
    with path.open("ab") as file:
        file.write(b'garbage\n{}\n5\n\xff\n{"event":"paused","time":1}\n{"event":"paused"}\n{"event":"resumed"}\n')
    write(path, *events[3:])
    faults: list[str] = []
    assert [event for event, _ in read(path, faults=faults)] == events
    assert len(faults) == 5
    assert all("is no event" in fault for fault in faults[:4])
    assert faults[4] == "journal.jsonl: skipped events that this version does not know: paused (2), resumed (1)"
    assert [event for event, _ in read(path)] == events


def test_data_set_and_replicate_are_written_where_there_are_several(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    events: list[AnyEvent] = [
        SweepStarted(driver="one"),
        DatasetSplit(dataset="digits", split="s"),
        TrialEnded(arm="a", trial=0, end="finished"),
        SweepStarted(driver="two", datasets={"digits": "d", "fashion": "f"}, replicates=2),
        DatasetSplit(dataset="fashion-mnist", split="t", label="fashion", replicate=1),
        TrialEnded(arm="a", trial=0, end="finished", dataset="fashion", replicate=1),
    ]
    write(path, *events)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert not any(f'"{key}"' in line for line in lines[:3] for key in ("datasets", "label", "replicate", "replicates"))
    assert '"dataset"' not in lines[2]
    assert [event for event, _ in read(path)] == events
