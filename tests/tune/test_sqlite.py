"""Databases lie where their store lies, whatever characters its path has."""

from pathlib import Path

import pytest

from tune.search.studies import open_storage
from tune.sqlite import sqlite_path, sqlite_url
from tune.store import Store
from tune.tracking.client import connect
from tune.tracking.server import uri_for

FOLDERS = ["x?y", "%41", "a#b c", "ü+@:[x]", "q=1&p'\""]


@pytest.fixture(autouse=True)
def no_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "SUPERSNN_OPTUNA_STORAGE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("folder", FOLDERS)
def test_an_address_names_the_file(folder: str, tmp_path: Path) -> None:
    path = tmp_path / folder / "optuna.db"
    assert sqlite_path(sqlite_url(path)) == path


def test_other_addresses_name_no_file() -> None:
    for url in ("postgresql://host/x", "sqlite://", "sqlite:///:memory:", "http://host:5000", "nonsense", ""):
        assert sqlite_path(url) is None


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_studies_lie_in_their_store(folder: str, tmp_path: Path) -> None:
    store = Store.at(tmp_path / folder)
    store.path.mkdir()
    open_storage(store.optuna_url)
    assert [path.name for path in store.path.iterdir()] == ["optuna.db"]
    assert [path.name for path in tmp_path.iterdir()] == [folder]


def test_mlflows_database_and_artifacts_lie_in_their_store(tmp_path: Path) -> None:
    store = tmp_path / "x?y %41#"
    connection = connect(uri_for(store), "digits", store / "artifacts")
    run = connection.client.create_run(connection.experiment_id).info.run_id
    connection.client.log_text(run, "text", "note.txt")
    assert {path.name for path in store.iterdir()} == {"mlflow.db", "artifacts"}
    assert (store / "artifacts" / run / "artifacts" / "note.txt").read_text() == "text"
    assert [path.name for path in tmp_path.iterdir()] == [store.name]
