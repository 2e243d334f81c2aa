"""Teachers that could not be prepared: once all else is done, one line says which."""

from collections.abc import Mapping

from supersnn.errors import ExternalError, UserError
from tune.execution.preparations import Preparation, PreparationFailed
from tune.execution.teacher_storage import TEACHERS
from tune.search.messages import TRACEBACK
from tune.storage import Storage


def require_none(failed: Mapping[Preparation, PreparationFailed], storage: Storage) -> None:
    """Raise one error for the teachers that could not be prepared; each traceback is written beside the teachers.

    Raises:
        UserError: the user can mend the first such.
        ExternalError: another one has failed.
    """
    if not failed:
        return
    for failure in failed.values():
        if failure.by_user:
            raise UserError(failure.text)
    names = {item: f"{TEACHERS}/{item.teacher}-{TRACEBACK}" for item in failed}
    for item, failure in failed.items():
        if failure.trace:
            storage.write_text(names[item], failure.trace)
    item, failure = next(iter(failed.items()))
    others = f", and {len(failed) - 1} more" if len(failed) > 1 else ""
    where = f"; its traceback is in {storage.root / names[item]}" if failure.trace else ""
    raise ExternalError(
        f"{item.label} could not be prepared{others}: {failure.text}{where} "
        "(the same command tries again what is missing)"
    )
