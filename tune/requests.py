"""Requests: what people ask a running or coming driver for, as files in the sweep's folder.

A request is one JSON file with a unique name, written atomically, so that any machine that sees the store may ask. The
driver takes each up once: what it does about it is an event with the request's id, and a request whose id the journal
has is only deleted.
"""

import getpass
import json
import re
import socket
import time
import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_args

from supersnn.errors import UserError
from supersnn.files import write_atomically
from supersnn.records.events import RequestKind
from tune.store import SweepFolder

_NAME = re.compile(r"[0-9]{16}-[0-9a-f]{32}\.json")
_LARGEST = 1 << 20
"""Bytes that a request may have."""


@dataclass(frozen=True)
class Request:
    """One request.

    Attributes:
        kind: what is asked for.
        target: a search or an arm, empty for all of them.
        trial: the number of the trial to retry.
        values: of an enqueued trial by dotted key, or of a change by dotted key of the sweep file.
        driver: the token of the driver that is to stop; others ignore the request.
        id, asked, by: its identity, when it was made in Unix seconds, and who made it.
    """

    kind: RequestKind
    target: str = ""
    trial: int | None = None
    values: dict[str, Any] = field(default_factory=dict)
    driver: str | None = None
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    asked: float = field(default_factory=lambda: round(time.time(), 6))
    by: str = field(default_factory=lambda: _who())

    def text(self) -> str:
        """Return the request as it is asked for on the command line."""
        what = f"{self.target}/{self.trial}" if self.trial is not None else self.target
        values = [f"{key}={json.dumps(value)}" for key, value in self.values.items()]
        return " ".join(filter(None, [self.kind, what, *values]))


def submit(folder: SweepFolder, request: Request) -> Path:
    """Write a request for the sweep's driver; return its file.

    Raises:
        UserError: the folder cannot be written to.
    """
    path = folder.requests / f"{int(request.asked * 1e6):016d}-{request.id}.json"
    try:
        folder.requests.mkdir(exist_ok=True)
        write_atomically(path, json.dumps(asdict(request), indent=1))
    except OSError as error:
        raise UserError(f"{path}: the request cannot be written: {error.strerror}") from error
    return path


def pending(folder: SweepFolder) -> list[tuple[Path, Request | None]]:
    """Return the requests that were not deleted yet, by the time at which they were made; None for a damaged file."""
    try:
        names = sorted(path for path in folder.requests.iterdir() if _NAME.fullmatch(path.name))
    except OSError:
        return []
    return [(path, _read(path)) for path in names if path.is_file()]


def delete(path: Path) -> None:
    """Delete a request's file, which may be gone already."""
    with suppress(OSError):
        path.unlink(missing_ok=True)


def _read(path: Path) -> Request | None:
    try:
        if path.stat().st_size > _LARGEST:
            return None
        plain = json.loads(path.read_text(encoding="utf-8"))
        request = Request(**plain)
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    sound = (
        request.kind in get_args(RequestKind)
        and isinstance(request.target, str)
        and isinstance(request.values, dict)
        and isinstance(request.trial, int | None)
        and isinstance(request.asked, int | float)
        and request.id == path.stem.rpartition("-")[2]
    )
    return request if sound else None


def _who() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "unknown"
    return f"{user}@{socket.gethostname()}"
