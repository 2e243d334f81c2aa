"""Which exceptions are printed as one line, with which exit code, and how they read."""

import os
import sqlite3
import sys
from collections.abc import Iterator

DATABASE_ERRORS = (
    ("sqlalchemy.exc", "SQLAlchemyError"),
    ("optuna.exceptions", "StorageInternalError"),
)
"""Errors of the studies' database by module and name: the modules are not imported for this."""


def exit_code(error: Exception) -> int | None:
    """Return 2 for a usage error, 1 for what a disk, a database or a server has done, None for an internal error.

    An internal error keeps its traceback.
    """
    from supersnn.errors import ExternalError, UserError
    from supersnn.files import DamagedFile

    if isinstance(error, UserError):
        return 2
    known = isinstance(error, ExternalError | DamagedFile | OSError)
    return 1 if known or _database_error(error) is not None else None


def message(error: Exception) -> str:
    """Return an error as one line without credentials."""
    from supersnn.credentials import masked
    from supersnn.errors import shortened

    addresses = [os.environ.get(name) for name in ("SUPERSNN_OPTUNA_STORAGE", "MLFLOW_TRACKING_URI")]
    if (cause := _database_error(error)) is not None:
        text = masked(str(getattr(cause, "orig", None) or cause), *addresses)
        return f"the studies' database has failed: {shortened(text, 300)} (the same command continues)"
    if isinstance(error, OSError):
        names = [os.fspath(name) for name in (error.filename, error.filename2) if isinstance(name, str | os.PathLike)]
        return masked(
            ": ".join([*map(str, names), error.strerror or shortened(str(error), 300) or type(error).__name__])
        )
    return " ".join(masked(str(error)).split("\n"))


def _database_error(error: BaseException) -> BaseException | None:
    """Return the innermost error of a database among an exception and its causes, None where there is none."""
    kinds: list[type] = [sqlite3.Error]
    kinds += [getattr(sys.modules[module], name) for module, name in DATABASE_ERRORS if module in sys.modules]
    found = [cause for cause in _causes(error) if isinstance(cause, tuple(kinds))]
    return found[-1] if found and found[0] is error else None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
