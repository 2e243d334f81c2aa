"""Whether an address is one of MLflow, before its client would wait for it, or make a new database there."""

import sqlite3
from contextlib import closing, suppress
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit
from urllib.request import urlopen

from supersnn.errors import UserError

DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
PATIENCE = 10
"""Seconds to wait for a server's first answer."""
LINE = 300
"""Characters of an error's text that are shown."""


def check_address(tracking_uri: str, shown: str) -> None:
    """Refuse an address that the client would wait for, or make a new database at.

    Raises:
        UserError: one line that says what is not there.
    """
    from sqlalchemy import create_engine
    from sqlalchemy.exc import SQLAlchemyError

    try:
        parts = urlsplit(tracking_uri)
        scheme = parts.scheme.partition("+")[0]
        if scheme in ("http", "https"):
            with suppress(HTTPError):  # any answer will do
                urlopen(tracking_uri.rstrip("/") + "/health", timeout=PATIENCE).close()
            return
    except (OSError, ValueError, HTTPException) as error:  # URLError is an OSError
        reason = getattr(error, "reason", None) or error
        raise UserError(f"{shown}: no answer from an MLflow server: {reason}") from error
    if scheme == "sqlite":
        path = Path(unquote(tracking_uri.partition("///")[2].partition("?")[0]))
        if not path.is_file():
            raise UserError(f"{shown}: no such database: expected the store's mlflow.db, as sqlite:///FOLDER/mlflow.db")
        if not _is_ours(path):  # MLflow's client would fill it with tables
            raise UserError(f"{shown}: not a database of MLflow: expected the store's mlflow.db")
    elif scheme in DATABASES:  # MLflow's client would try again for an hour
        try:
            timeout = {"connect_timeout": PATIENCE} if scheme in ("postgresql", "mysql") else {}
            engine = create_engine(tracking_uri, connect_args=timeout)
            engine.connect().close()
            engine.dispose()
        except (SQLAlchemyError, ImportError) as error:
            reason = " ".join(str(error).split()).replace(tracking_uri, shown)[:LINE]
            raise UserError(f"{shown}: no such database, or no answer from it: {reason}") from error
    elif not (scheme == "file" and Path(unquote(parts.path)).is_dir()) and not tracking_uri.startswith("databricks"):
        expected = "http(s)://HOST:PORT, sqlite:///FILE, or another database's address"
        raise UserError(f"{shown}: not the address of an MLflow server: expected {expected}")


def _is_ours(path: Path) -> bool:
    """Return whether a file is a SQLite database with MLflow's tables."""
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            tables = {name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")}
    except sqlite3.Error:
        return False
    return {"experiments", "runs", "alembic_version"} <= tables
