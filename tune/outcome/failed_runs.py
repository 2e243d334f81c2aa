"""Final runs that raised an error: the others go on, then one line says which could not be had."""

import traceback
from collections.abc import Sequence

from supersnn.errors import ExternalError, UserError, described
from supersnn.files import DamagedFile
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
        ExternalError: a training has raised an error.
        Exception: the first error that needs no explanation, such as a full disk.
    """
    for _, error in failed:
        if isinstance(error, _SELF_EXPLANATORY):
            raise error
    for item, error in failed:
        text = "".join(traceback.format_exception(error))
        storage.write_text(f"{item.job.folder}/{TRACEBACK}", text)
    if failed:
        item, error = failed[0]
        others = f", and {len(failed) - 1} more" if len(failed) > 1 else ""
        raise ExternalError(
            f"the final run {item.search}/{item.trial} with seed {item.seed} failed{others}: "
            f"{described(error)}; its traceback is in {storage.root / item.job.folder / TRACEBACK} "
            "(the same command tries again what is missing)"
        ) from error
