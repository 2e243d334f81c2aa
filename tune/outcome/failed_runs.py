"""Final runs that raised an error: the others go on, then one line says which could not be had."""

import traceback
from collections.abc import Sequence

from supersnn.errors import ExternalError, UserError, shortened
from supersnn.files import DamagedFile
from tune.execution.trial import StaleDriverError
from tune.outcome.final_training import FinalRun
from tune.search.messages import TRACEBACK
from tune.storage import Storage

_TOLD_AS_THEY_ARE = (UserError, ExternalError, DamagedFile, OSError, StaleDriverError)
"""Errors that say by themselves what has happened."""


def require_none(failed: Sequence[tuple[FinalRun, Exception]], storage: Storage) -> None:
    """Raise one error for the final runs that have failed, once all others have ended.

    Each traceback is written into the folder of its run.

    Raises:
        ExternalError: a training has raised an error.
        Exception: the first error that is told as it is, such as a full disk.
    """
    for _, error in failed:
        if isinstance(error, _TOLD_AS_THEY_ARE):
            raise error
    for item, error in failed:
        text = "".join(traceback.format_exception(error))
        storage.write_text(f"{item.job.folder}/{TRACEBACK}", text)
    if failed:
        item, error = failed[0]
        what = f"{type(error).__name__}: {shortened(str(error), 200)}" if str(error) else type(error).__name__
        others = f", and {len(failed) - 1} more" if len(failed) > 1 else ""
        raise ExternalError(
            f"the final run {item.search}/{item.trial} with seed {item.seed} failed{others}: {what}; its traceback is "
            f"in {storage.root / item.job.folder / TRACEBACK} (the same command tries again what is missing)"
        ) from error
