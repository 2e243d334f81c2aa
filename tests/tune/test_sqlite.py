"""Databases lie where their store lies, whatever characters its path has."""

import os
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import takewhile
from pathlib import Path

import pytest

from supersnn.errors import UserError
from tune.search.studies import open_storage
from tune.sqlite import fault_of, sqlite_path, sqlite_url
from tune.store import Store
from tune.terminal.doctor import examine
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


@contextmanager
def nobody() -> Iterator[None]:
    """Have the rights of a user other than root in the block."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def _text(path: Path) -> None:
    path.write_text("no database\n" * 100)


def _below_a_file(path: Path) -> None:
    path.parent.rmdir()
    path.parent.write_text("")


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (Path.mkdir, "is a folder; expected a database's file"),
        (_text, "file is not a database"),
        (os.mkfifo, "is not a regular file; expected a database's file"),
        (_below_a_file, "is a file; expected a folder"),
    ],
)
def test_what_is_no_database_is_refused_at_once(
    make: Callable[[Path], object], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow itself would try for minutes."""
    path = tmp_path / "folder" / "mlflow.db"
    path.parent.mkdir()
    make(path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{path}")
    began = time.monotonic()
    with pytest.raises(UserError) as error:
        connect(uri_for(tmp_path), "digits", tmp_path / "artifacts")
    findings = {finding.what: finding for finding in examine(Store(tmp_path))}
    assert time.monotonic() - began < 60
    assert text in str(error.value)
    assert f"MLflow at sqlite:///{path} cannot be used" in str(error.value)
    assert len(str(error.value).splitlines()) == 1
    assert not findings["MLflow"].ok


def test_a_database_without_permission_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE a (b)")
    path.chmod(0o444)
    tmp_path.chmod(0o755)
    for folder in takewhile(lambda parent: parent != Path(tempfile.gettempdir()), tmp_path.parents):
        folder.chmod(0o755)
    with nobody():
        assert fault_of(path, writing=False) is None
        assert fault_of(path, writing=True) == f"{path} cannot be written to: Permission denied"
    path.chmod(0)
    with nobody():
        assert fault_of(path, writing=False) == f"{path} cannot be read: Permission denied"


def test_a_database_that_is_not_there_yet_or_in_use_is_no_fault(tmp_path: Path) -> None:
    assert fault_of(tmp_path / "not" / "yet" / "mlflow.db", writing=True) is None
    path = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE a (b)")
        connection.execute("BEGIN EXCLUSIVE")
        assert fault_of(path, writing=True) is None
