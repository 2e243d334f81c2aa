"""The store's own MLflow database: repaired where the store was moved or copied, upgraded where its schema is old."""

import os
import shlex
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

from supersnn.credentials import masked
from supersnn.errors import UserError, shortened
from tune.sqlite import sqlite_path, sqlite_url

LOCATIONS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
"""The columns in which MLflow keeps the absolute address of an artifact."""
PATHS = ("tags", "model_version_tags")
"""The tables with tags that were absolute paths in earlier versions: `supersnn.export`, `supersnn.traceback`."""
WAIT = 10.0
"""Seconds to wait for another process that is writing to the database."""

_OWN = """
SELECT DISTINCT artifact_location FROM experiments WHERE artifact_location LIKE 'file:%/artifacts' AND (
    experiment_id IN (SELECT experiment_id FROM runs JOIN tags USING (run_uuid) WHERE key = 'supersnn.key')
    OR experiment_id NOT IN (SELECT experiment_id FROM runs))
"""


def own_database(uri: str, artifact_root: Path | None) -> Path | None:
    """Return the database's file where `uri` is that of the store whose artifacts are in `artifact_root`, else None."""
    path = sqlite_path(uri)
    if path is None or artifact_root is None or not path.is_file():
        return None
    own = artifact_root.resolve().parent / "mlflow.db"
    return own if path.resolve() == own else None


def repair_locations(database: Path, artifact_root: Path) -> str | None:
    """Let the addresses of a store's artifacts lead to where the store is now; return what was done, None for nothing.

    Artifacts of a store that was moved or copied would be written to its old place, and looked for there.

    Raises:
        sqlite3.Error: the database cannot be read or written.
    """
    root = artifact_root.resolve()
    with closing(sqlite3.connect(database, timeout=WAIT, isolation_level=None)) as connection:
        if not _moved(connection, root):
            return None
        connection.execute("BEGIN IMMEDIATE")
        with connection:
            before = _moved(connection, root)
            for location in before:
                _replace(connection, location, root.as_uri())
    if not before:
        return None
    places = ", ".join(str(_folder(location).parent) for location in before)
    return f"the store was moved or copied from {places}: the addresses of artifacts in {database} lead to it again"


def prepare(uri: str, artifact_root: Path | None) -> tuple[str, ...]:
    """Repair and upgrade the store's own database, where it needs that; return a line for each thing done.

    Nothing is done to another database.

    Raises:
        UserError: its schema is of a newer MLflow, or could not be upgraded.
        sqlite3.Error: it cannot be read or written.
    """
    own = own_database(uri, artifact_root)
    if own is None or artifact_root is None:
        return ()
    from mlflow.store.db.utils import _get_latest_schema_revision

    notices = [repair_locations(own, artifact_root)]
    found = schema_of(own)
    if found not in (None, _get_latest_schema_revision()):
        if not is_older(str(found)):
            raise UserError(advice(uri, str(found), own))
        try:
            notices.append(upgrade(own))
        except Exception as error:
            raise UserError(advice(uri, str(found), own, error)) from error
    return tuple(filter(None, notices))


def state(own: Path) -> str:
    """Return in words what the next sweep finds in the store's own database.

    Raises:
        UserError: its schema is of a newer MLflow.
        sqlite3.Error: it cannot be read.
    """
    from mlflow.store.db.utils import _get_latest_schema_revision

    found = schema_of(own)
    if found in (None, _get_latest_schema_revision()):
        return str(own)
    if not is_older(str(found)):
        raise UserError(advice(sqlite_url(own), str(found), own))
    return f"{own}: of an older MLflow; the next sweep upgrades it"


def schema_of(file: Path) -> str | None:
    """Return the revision of an SQLite file's schema, None where MLflow has not made one.

    Raises:
        sqlite3.Error: the file cannot be read.
    """
    with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True, timeout=WAIT)) as connection:
        if "alembic_version" not in _tables(connection):
            return None
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        return None if row is None else str(row[0])


def refused_schema(error: BaseException) -> str | None:
    """Return the schema that MLflow has found where it refuses to use a database because of it, else None."""
    _, found, rest = str(error).partition("database schema (found version ")
    return rest.partition(",")[0] if found else None


def upgrade(database: Path) -> str:
    """Upgrade the schema of a store's database: a copy first, which replaces it only where that has worked.

    Returns:
        What was done.

    Raises:
        Exception: the upgrade has failed, or another process uses the database; the file is as it was.
    """
    import sqlalchemy
    from mlflow.store.db.utils import _upgrade_db, _verify_schema

    copy = database.with_name(f".{database.name}.{os.getpid()}")
    try:
        with closing(sqlite3.connect(database, timeout=WAIT, isolation_level=None)) as connection:
            connection.execute("BEGIN EXCLUSIVE")  # until the copy is in place, nobody else writes
            copy.write_bytes(database.read_bytes())
            engine = sqlalchemy.create_engine(sqlite_url(copy))
            try:
                _upgrade_db(engine)
                _verify_schema(engine)
            finally:
                engine.dispose()
            os.replace(copy, database)
    finally:
        copy.unlink(missing_ok=True)
    return f"{database} was upgraded to the schema of the installed MLflow"


def advice(uri: str, found: str, own: Path | None = None, reason: Exception | None = None) -> str:
    """Return what to do about a database whose schema is not that of the installed MLflow.

    Args:
        uri: of the database.
        found: its schema.
        own: the file of the store's own database, None for another one.
        reason: why its upgrade has failed, if it was tried.
    """
    import mlflow

    at = f"MLflow at {masked(uri)}: its schema {found} is"
    if not is_older(found):
        fresh = f"move {own} away: it is filled again from the journals" if own else "use another database"
        return f"{at} of a newer MLflow than {mlflow.__version__}, which is installed: install that one, or {fresh}"
    address = shlex.quote(uri) if own else '"$MLFLOW_TRACKING_URI"'
    command = f"python -m mlflow db upgrade {address}"
    failed = f" and could not be upgraded ({shortened(masked(str(reason), uri), 200)})" if reason else ""
    return f"{at} older than that of MLflow {mlflow.__version__}{failed}; make a copy of it, then run: {command}"


def is_older(found: str) -> bool:
    """Return whether a schema is one that the installed MLflow can upgrade."""
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError
    from mlflow.store.db.utils import _get_alembic_config

    try:
        return ScriptDirectory.from_config(_get_alembic_config("sqlite://")).get_revision(found) is not None
    except CommandError:
        return False


def _moved(connection: sqlite3.Connection, root: Path) -> list[str]:
    """Return the addresses of artifact folders of this store that lead elsewhere."""
    if not _tables(connection) >= {"experiments", "runs", "tags"}:
        return []
    return [location for (location,) in connection.execute(_OWN) if _folder(location) != root]


def _tables(connection: sqlite3.Connection) -> set[str]:
    return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def _replace(connection: sqlite3.Connection, before: str, now: str) -> None:
    """Replace the beginning of all addresses of artifacts, and make paths in tags relative to the store."""
    for table, column in LOCATIONS:
        if column in {name for _, name, *_ in connection.execute(f"PRAGMA table_info({table})")}:
            connection.execute(
                f"UPDATE {table} SET {column} = :now || substr({column}, length(:before) + 1) "
                f"WHERE {column} = :before OR substr({column}, 1, length(:before) + 1) = :before || '/'",
                {"before": before, "now": now},
            )
    store = f"{_folder(before).parent}/"
    for table in PATHS:
        connection.execute(
            f"UPDATE {table} SET value = substr(value, length(:store) + 1) "
            "WHERE key IN ('supersnn.export', 'supersnn.traceback') AND substr(value, 1, length(:store)) = :store",
            {"store": store},
        )


def _folder(location: str) -> Path:
    """Return the folder at a file URI, whose special characters are percent-encoded."""
    return Path(unquote(urlsplit(location).path))
