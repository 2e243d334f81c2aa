"""The schema of the journal: every event survives its own line; other versions' lines are understood or left alone."""

import json
import subprocess
import sys

import pytest

from supersnn.records.events import SCHEMA, AnyEvent, EpochReported, SweepStarted, TrialEnded, end_state, parse


def test_every_event_survives_its_line(events: list[AnyEvent]) -> None:
    for event in events:
        line = event.model_dump_json(by_alias=True)
        assert line.startswith(f'{{"event":"{event.event}","time":')
        assert parse(line) == event


def test_schema_is_stated_by_the_driver_and_1_where_it_is_not() -> None:
    line = SweepStarted(schema_version=SCHEMA).model_dump_json(by_alias=True)
    assert json.loads(line)["schema"] == SCHEMA
    old = parse('{"event":"sweep","time":1.0,"driver":"a","code":"1","versions":{},"resumed":false}')
    assert isinstance(old, SweepStarted)
    assert old.schema_version == 1


def test_fields_and_kinds_of_a_later_version_are_left_alone() -> None:
    event = parse('{"event":"close","time":1.0,"driver":"a","end":"done","mood":"good"}')
    assert event is not None
    assert "mood" not in event.model_dump()
    assert parse('{"event":"paused","time":1.0}') is None


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{}", "event"),
        ("5", "object"),
        ("garbage", "JSON"),
        (b"\xff\xfe", "JSON|utf"),
        ('{"event":"end","time":1.0,"arm":"a","end":"finished"}', "trial: Field required"),
        ('{"event":"epoch","arm":"a","trial":0,"epoch":1,"metrics":{"val/accuracy":"x"}}', "val/accuracy"),
        ('{"event":"ranked","arm":"a","trial":0,"seed":1,"metrics":{},"seconds":1e308}', "seconds"),
        ('{"event":"ranked","arm":"a","trial":0,"seed":1,"metrics":{},"seconds":-1}', "seconds"),
    ],
)
def test_a_line_that_is_no_event_is_one_line_of_complaint(line: str | bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words) as complaint:
        parse(line)
    assert "\n" not in str(complaint.value)


def test_means_of_schema_1_get_keys_of_their_own() -> None:
    metrics = {"val/accuracy": 0.5, "val/seed_accuracy": 0.6, "spikes/rate": 0.1, "time/epoch_s": 2.0}
    event = parse(json.dumps({"event": "epoch", "time": 1.0, "arm": "a", "trial": 0, "epoch": 4, "metrics": metrics}))
    assert isinstance(event, EpochReported)
    assert event.metrics == {
        "val/accuracy": 0.6,
        "spikes/rate": 0.1,
        "time/epoch_s": 2.0,
        "mean/val/accuracy": 0.5,
        "mean/spikes/rate": 0.1,
    }


def test_an_end_has_a_state_without_its_reason() -> None:
    assert [end_state(end) for end in ("finished", "stopped", "failed:nan")] == ["finished", "stopped", "failed"]
    assert TrialEnded(arm="a", trial=0, end="failed:silent").state == "failed"


def test_the_record_imports_nothing_heavy() -> None:
    heavy = "('torch', 'numpy', 'pandas', 'ray', 'optuna', 'mlflow')"
    code = f"import sys, supersnn.records.snapshot; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
