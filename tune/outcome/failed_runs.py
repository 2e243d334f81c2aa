"""Final runs that raised an error: the others go on, then one line says which could not be had."""

import traceback
from collections.abc import Sequence

from supersnn.errors import ExternalError, UserError, described
from supersnn.files import DamagedFile
from tune.execution.failures import FailedForGood
from tune.execution.trial import StaleDriverError
from tune.outcome.final_training import FinalRun
from tune.search.messages import TRACEBACK
from tune.storage import Storage

_SELF_EXPLANATORY = (UserError, ExternalError, DamagedFile, OSError, StaleDriverError)
"""Errors that say by themselves what has happened."""


def require_none(failed: Sequence[tuple[FinalRun, Exception]], storage: Storage) -> None:
    """Raise one error for the final runs that have failed, once all others have ended.

    Each traceback is written into the folder of its run.

    Raises:
        ExternalError: runs have failed; it names the first.
        Exception: the first error that needs no explanation, such as a full disk.
    """
    if not failed:
        return
    for _, error in failed:
        if isinstance(error, _SELF_EXPLANATORY) and not isinstance(error, FailedForGood):
            raise error
    for item, error in failed:
        if trace := _trace(error):
            storage.write_text(_trace_name(item), trace)
    item, error = failed[0]
    others = f", and {len(failed) - 1} more" if len(failed) > 1 else ""
    reason = error.reason if isinstance(error, FailedForGood) else described(error)
    where = f"; its traceback is in {storage.root / _trace_name(item)}" if _trace(error) else ""
    raise ExternalError(
        f"{item.label} failed{others}: {reason}{where} (the same command tries again what is missing)"
    ) from error


def _trace(error: Exception) -> str:
    """Return the traceback of a run's error, of its worker where that is another process; empty where that was lost."""
    return error.trace if isinstance(error, FailedForGood) else "".join(traceback.format_exception(error))


def _trace_name(item: FinalRun) -> str:
    return f"{item.job.folder}/{TRACEBACK}"
