"""SQLite files: their addresses, with whatever characters their paths have, and why one is no usable database."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import sqlalchemy
import sqlalchemy.exc


def sqlite_url(path: Path) -> str:
    """Return the address of an SQLite file, whatever characters its path has.

    Where some are percent-encoded it names the driver: MLflow would create the folder of a plain ``sqlite:///`` address
    as it is written.
    """
    url = sqlalchemy.URL.create("sqlite", database=str(path))
    text = url.render_as_string()
    return text if text == f"sqlite:///{path}" else url.set(drivername="sqlite+pysqlite").render_as_string()


def sqlite_path(url: str) -> Path | None:
    """Return the file of an SQLite address; None for another database, one in memory, or what is no address."""
    try:
        parsed = sqlalchemy.make_url(url)
    except (sqlalchemy.exc.ArgumentError, ValueError):
        return None
    if parsed.get_backend_name() != "sqlite" or parsed.database in (None, "", ":memory:"):
        return None
    return Path(parsed.database)


def fault_of(path: Path, writing: bool) -> str | None:
    """Return why no SQLite database can be used at a path, None where one can, or where nothing is there yet.

    Args:
        path: of the database's file; nothing is created or changed.
        writing: whether it must be writable.
    """
    if not os.path.exists(path):
        existing = next(parent for parent in path.absolute().parents if os.path.exists(parent))
        return None if existing.is_dir() else f"{existing} is a file; expected a folder"
    if not path.is_file():
        return f"{path} is {'a folder' if path.is_dir() else 'not a regular file'}; expected a database's file"
    try:
        with (
            path.open("r+b" if writing else "rb"),
            closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=0)) as connection,
        ):
            connection.execute("PRAGMA schema_version").fetchone()
    except OSError as error:
        return f"{path} cannot be {'written to' if writing else 'read'}: {error.strerror}"
    except sqlite3.OperationalError:
        return None  # another process holds it at the moment: its user waits for that
    except sqlite3.Error as error:
        return f"{path}: {error}"
    return None
