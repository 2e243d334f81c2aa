"""Addresses of SQLite files, with whatever characters their paths have."""

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
