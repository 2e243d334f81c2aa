"""A store that was moved or copied, and databases of another schema than the installed MLflow's."""

import json
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from supersnn import exported
from supersnn.config import TrainConfig
from supersnn.errors import UserError
from supersnn.networks.base import ImageShape
from supersnn.networks.build import build
from supersnn.records.events import AnyEvent, WinnerExported
from tune.sqlite import sqlite_url
from tune.tracking import database
from tune.tracking.client import answer, connect
from tune.tracking.tracker import Tracker

if TYPE_CHECKING:
    from tests.tune.tracking.conftest import TrackedSweep

CONFIG = TrainConfig.model_validate({"dataset": {"name": "digits"}, "student": {"architecture": "resnet8"}})
LOAD = """
import sys, mlflow, numpy
mlflow.set_tracking_uri(sys.argv[1])
print(mlflow.pyfunc.load_model("models:/digits@champion").predict(numpy.zeros((1, 1, 8, 8), numpy.uint8)).shape)
"""


def tracked(sweep: "TrackedSweep", store: Path) -> Tracker:
    """Send the sweep's events to the database of its store, as a driver does."""
    tracker = Tracker(
        sweep.folder, sqlite_url(store / "mlflow.db"), "digits", sweep.config, store / "artifacts"
    ).start()
    tracker.wait_connected()
    assert tracker.close() == 0
    return tracker


def state_of(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file with its size and the time of its last change."""
    stats = {str(path.relative_to(folder)): path.stat() for path in folder.rglob("*") if path.is_file()}
    return {name: (stat.st_size, stat.st_mtime_ns) for name, stat in stats.items()}


@pytest.fixture
def store(make_sweep: Any, empty_database: Path, events: list[AnyEvent], tmp_path: Path) -> Path:
    """A store with a tracked sweep, one of whose winners is registered."""
    sweep: TrackedSweep = make_sweep("old place")
    store = tmp_path / "old place"
    torch.manual_seed(0)
    network = build(CONFIG.student, CONFIG.neuron, ImageShape(1, 8), 10)
    pixels = exported.Preprocessing(1, 8, (0.5,), (0.5,), tuple("0123456789"))
    exported.write(sweep.folder.best / "direct", CONFIG, network.state_dict(), pixels, {"val_accuracy": 0.5})
    sweep.append([*events[:-1], WinnerExported(time=1.79e9, arm="direct", folder="best/direct", seed=1001), events[-1]])
    shutil.copy(empty_database, store / "mlflow.db")
    assert tracked(sweep, store).notices == ()
    return store


def test_nothing_in_the_database_but_mlflows_own_addresses_is_absolute(store: Path) -> None:
    with closing(sqlite3.connect(store / "mlflow.db")) as connection:
        for table in database.PATHS:
            values = [value for (value,) in connection.execute(f"SELECT value FROM {table}")]
            assert not [value for value in values if str(store) in value]
            assert "sweeps/digits/best/direct" in values
    models = list((store / "artifacts").rglob("MLmodel"))
    assert models
    assert not [path for path in models if str(store) in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("how", [pytest.param("moved", marks=pytest.mark.slow), "copied"])
def test_a_store_in_another_place_is_repaired(how: str, store: Path, make_sweep: Any, tmp_path: Path) -> None:
    """Nothing is written to its old place, and its champion loads from the new one."""
    from mlflow.tracking._tracking_service.utils import _artifact_repos_cache

    place = tmp_path / "new place"
    shutil.copytree(store, place)
    _artifact_repos_cache.clear()  # MLflow keeps the folders of runs by their ids: another process has no such cache
    if how == "moved":
        shutil.rmtree(store)
    before = state_of(store)
    notices = tracked(make_sweep("new place"), place).notices
    assert [str(store) in notice for notice in notices] == [True]
    assert tracked(make_sweep("new place"), place).notices == ()
    if how == "copied":
        assert state_of(store) == before
        store.rename(tmp_path / "hidden")  # the copy must not read from the original either
    with closing(sqlite3.connect(place / "mlflow.db")) as connection:
        dump = "\n".join(connection.iterdump())
    assert store.as_uri() not in dump
    loaded = subprocess.run(
        [sys.executable, "-c", LOAD, sqlite_url(place / "mlflow.db")], capture_output=True, text=True, cwd=tmp_path
    )
    assert loaded.stdout.strip() == "(1, 10)", loaded.stderr
    connected = connect(sqlite_url(place / "mlflow.db"), "digits", place / "artifacts")
    run = connected.client.create_run(connected.experiment_id).info.run_id
    connected.client.log_text(run, "new", "note.txt")
    assert (place / "artifacts" / run / "artifacts" / "note.txt").exists()
    assert not store.exists()


def test_paths_that_earlier_versions_wrote_become_relative(store: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(store / "mlflow.db")) as connection, connection:
        connection.execute(
            "UPDATE tags SET value = ? WHERE key = 'supersnn.export'", (str(store / "sweeps/digits/best/direct"),)
        )
    store.rename(tmp_path / "new")
    assert database.repair_locations(tmp_path / "new" / "mlflow.db", tmp_path / "new" / "artifacts")
    with closing(sqlite3.connect(tmp_path / "new" / "mlflow.db")) as connection:
        values = {value for (value,) in connection.execute("SELECT value FROM tags WHERE key = 'supersnn.export'")}
    assert values == {"sweeps/digits/best/direct"}


def test_another_database_is_left_alone(store: Path, tmp_path: Path) -> None:
    shutil.copy(store / "mlflow.db", tmp_path / "other.db")
    before = (tmp_path / "other.db").read_bytes()
    assert database.prepare(sqlite_url(tmp_path / "other.db"), tmp_path / "elsewhere" / "artifacts") == ()
    assert database.prepare("http://host:5000", tmp_path / "artifacts") == ()
    assert (tmp_path / "other.db").read_bytes() == before


def revision(file: Path, found: str) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (found,))


def test_an_older_schema_is_upgraded_on_a_copy(tmp_path: Path) -> None:
    import sqlalchemy
    from alembic import command
    from alembic.script import ScriptDirectory
    from mlflow.store.db.utils import _get_alembic_config
    from mlflow.store.tracking.dbmodels.initial_models import Base

    file = tmp_path / "mlflow.db"
    engine = sqlalchemy.create_engine(sqlite_url(file))
    Base.metadata.create_all(engine)
    config = _get_alembic_config(sqlite_url(file))
    latest = ScriptDirectory.from_config(config).get_current_head()
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, f"{latest}-1")
    engine.dispose()
    older = database.schema_of(file)
    assert older not in (None, latest)
    assert "upgrades it" in answer(sqlite_url(file), tmp_path / "artifacts")
    connected = connect(sqlite_url(file), "digits", tmp_path / "artifacts")
    assert [str(file) in notice for notice in connected.notices] == [True]
    assert database.schema_of(file) == latest
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_where_the_upgrade_fails_the_file_stays_and_the_whole_command_is_named(
    empty_database: Path, tmp_path: Path
) -> None:
    from alembic.script import ScriptDirectory
    from mlflow.store.db.utils import _get_alembic_config

    file = tmp_path / "mlflow.db"
    shutil.copy(empty_database, file)
    scripts = ScriptDirectory.from_config(_get_alembic_config("sqlite://"))
    older = next(
        script.revision for script in scripts.walk_revisions() if script.nextrev and "add" in script.doc.lower()
    )
    revision(file, older)
    before = file.read_bytes()
    with pytest.raises(UserError) as refused:
        connect(sqlite_url(file), "digits", tmp_path / "artifacts")
    assert str(refused.value).endswith(f"run: python -m mlflow db upgrade {sqlite_url(file)}")
    assert file.read_bytes() == before


def test_a_newer_schema_is_named(empty_database: Path, tmp_path: Path) -> None:
    file = tmp_path / "mlflow.db"
    shutil.copy(empty_database, file)
    revision(file, "0123456789ab")
    for use in (
        lambda: connect(sqlite_url(file), "x", tmp_path / "artifacts"),
        lambda: connect(sqlite_url(file), "x", None),
    ):
        with pytest.raises(UserError, match=r"its schema 0123456789ab is of a newer MLflow than 3\.") as refused:
            use()
        assert "\n" not in str(refused.value)
    with pytest.raises(UserError, match="newer MLflow"):
        answer(sqlite_url(file), tmp_path / "artifacts")


def test_the_password_is_not_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tune.tracking import server

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://me:s3cr3t@db/mlflow")
    assert "s3cr3t" not in " ".join(server.ui_command(tmp_path))
    assert server.ui_variables(tmp_path)["MLFLOW_BACKEND_STORE_URI"] == "postgresql://me:s3cr3t@db/mlflow"
    assert json.dumps(server.ui_variables(tmp_path))
