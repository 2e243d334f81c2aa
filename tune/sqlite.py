"""Addresses of SQLite files, with whatever characters their paths have."""

from pathlib import Path

import sqlalchemy
import sqlalchemy.exc


def sqlite_url(path: Path) -> str:
    """Return the address of an SQLite file, whatever characters its path has."""
    return sqlalchemy.URL.create("sqlite", database=str(path)).render_as_string(hide_password=False)


def sqlite_path(url: str) -> Path | None:
    """Return the file of an SQLite address; None for another database, one in memory, or what is no address."""
    try:
        parsed = sqlalchemy.make_url(url)
    except (sqlalchemy.exc.ArgumentError, ValueError):
        return None
    if parsed.get_backend_name() != "sqlite" or parsed.database in (None, "", ":memory:"):
        return None
    return Path(parsed.database)
