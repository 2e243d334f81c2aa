"""A sweep's verdicts on a real MLflow: notes, metrics and the report page, sent again without a change."""

from collections.abc import Callable
from pathlib import Path

from mlflow import MlflowClient

from tune.sqlite import sqlite_url
from tune.tracking.changes import Change, Run
from tune.tracking.client import connect

Write = Callable[..., Path]


def test_verdicts_are_shown_and_a_users_note_is_kept(synthetic: Write, tmp_path: Path) -> None:
    folder = synthetic(trials=2)
    uri = sqlite_url(tmp_path / "mlflow.db")
    connection = connect(uri, "digits", tmp_path / "artifacts")
    run = Run("digits", "digits", 1_750_000_000.0, {"supersnn.level": "sweep"})
    change = Change(run, status="FINISHED", ended=1_750_000_100.0, report=folder)
    connection.send(change)
    client = MlflowClient(uri, uri)
    (shown,) = client.search_runs([connection.experiment_id])
    assert shown.data.tags["mlflow.note.content"].startswith("**")
    assert "| data |" in shown.data.tags["mlflow.note.content"]
    assert "verdict/heterogeneous-direct/difference" in shown.data.metrics
    assert [item.path for item in client.list_artifacts(shown.info.run_id)] == ["report.html"]
    note = client.get_experiment(connection.experiment_id).tags["mlflow.note.content"]
    assert note == shown.data.tags["mlflow.note.content"]
    written = (folder / "report.html").stat().st_mtime_ns

    client.set_experiment_tag(connection.experiment_id, "mlflow.note.content", "mine")
    connection.send(change)
    assert client.get_experiment(connection.experiment_id).tags["mlflow.note.content"] == "mine"
    assert (folder / "report.html").stat().st_mtime_ns == written  # the journal has not grown
    assert client.get_run(shown.info.run_id).data.tags["mlflow.note.content"] == note
