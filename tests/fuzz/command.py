"""A command of `supersnn` in this process, and what holds of its end whatever happened before."""

import atexit
import contextlib
import io
import itertools
import os
import re
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from supersnn_cli import main
from supersnn_cli.output import UNREAD
from tests.fuzz.findings import Finding, last_line, place_of

CODES = (0, 1, 2, 130)
LONGEST_LINE = 600
MOST_LINES = 8
"""Lines on standard error: a few are allowed besides the error's own, as progress is shown there too."""


class TooSlow(BaseException):
    """A case took longer than it may; no handler of the code under test takes it for an error of its own."""


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    command: str
    code: int
    out: str
    err: str
    seconds: float
    error: BaseException | None
    warned: tuple[str, ...]

    def faults(
        self, part: str, case: str, *, lines: int = MOST_LINES, user: bool = False, unread: bool = False
    ) -> Iterator[Finding]:
        """Yield what does not hold of it.

        Args:
            part: the fuzzer.
            case: what was done, in words.
            lines: how many it may print on standard error where it fails.
            user: only the user's mistake is expected, as one line.
            unread: its output went into a pipe that nobody reads: `UNREAD`, without a word, unless it was quicker.
        """
        name = self.command.split()[0]
        if self.error is not None:
            kind = "takes too long" if isinstance(self.error, TooSlow) else "traceback"
            yield Finding(part, kind, place_of(self.error), f"{case} → {self.command}", last_line(self.error))
            return
        case = f"{case} → {self.command} (exit code {self.code})"
        said = self.err.strip().splitlines()
        if self.code not in ((0, UNREAD) if unread else CODES):
            yield Finding(part, "exit code", f"{name} {self.code}", case, self.err[-300:])
        if "Traceback" in self.err or "Traceback" in self.out:
            last = said[-1] if said else self.out.strip().splitlines()[-1]
            yield Finding(part, "traceback is printed", f"{name} {last[:60]}", case, last[:300])
        if unread and said and self.code:
            yield Finding(part, "complains about a pipe that was closed", name, case, self.err[-300:])
        if self.code not in (0, 130) and not said and not unread:
            yield Finding(part, "error without a word", name, case, self.out[-300:])
        if user and self.code and (self.code != 2 or len(said) != 1 or self.out):
            yield Finding(part, "not one line with exit code 2", _shape(self.err), case, self.err[:300])
        complaint = list(itertools.dropwhile(lambda line: not line.startswith("supersnn: "), said)) or said
        if self.code and len(complaint) > lines:  # the progress before it is none of it
            detail = "\n".join(complaint)[:600]
            yield Finding(part, "too many lines of error", f"{name} {_shape(self.err)}", case, detail)
        if self.code and (longest := max(map(len, said), default=0)) > LONGEST_LINE:
            yield Finding(part, "line of error too long", name, case, f"{longest} characters: {self.err[:200]}")
        for warning in self.warned:
            yield Finding(part, "warning", re.sub(r"\d+|'[^']*'", "N", warning)[:80], case, warning[:300])


def _shape(text: str) -> str:
    """The beginning of an error without what differs from case to case: paths, numbers, quoted text."""
    text = re.sub(r"/\S+", "PATH", text.splitlines()[-1] if text.strip() else "")
    text = re.sub(r"\b[\w-]+(\.[\w.-]+)+: |\b\w{20,}", "KEY: ", text)
    return re.sub(r"\d+", "N", re.sub(r"'[^']*'|\"[^\"]*\"", "'…'", text))[:70]


@contextlib.contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raise `TooSlow` in the block once it has taken so long."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise TooSlow(f"more than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    timer = signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, *timer)


@contextlib.contextmanager
def variables(**values: str) -> Iterator[None]:
    """Set some of the environment's variables in the block."""
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def lasting_folder(prefix: str) -> Path:
    """Return a new folder that is removed when this process ends, not when one of its forks does."""
    folder, owner = Path(tempfile.mkdtemp(prefix=prefix)), os.getpid()

    def remove() -> None:
        if os.getpid() == owner:
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return folder


class _Stream(io.TextIOWrapper):
    """A stream in memory that has, unlike `StringIO`, an encoding and a buffer, as a terminal's has."""

    def __init__(self, encoding: str, errors: str) -> None:
        super().__init__(io.BytesIO(), encoding=encoding, errors=errors, write_through=True)

    def text(self) -> str:
        self.flush()
        buffer = self.buffer
        assert isinstance(buffer, io.BytesIO)
        return buffer.getvalue().decode(self.encoding)


def call(arguments: Sequence[str | Path], seconds: float = 30, encoding: str = "utf-8") -> Ended:
    """Run a command as the console script does, in this process, to its end."""
    words = [str(argument) for argument in arguments]
    out, err = _Stream(encoding, "strict"), _Stream(encoding, "backslashreplace")  # as Python opens them
    error: BaseException | None = None
    code = 0
    before, began = sys.argv, time.monotonic()
    with warnings.catch_warnings(record=True) as warned, contextlib.redirect_stdout(out):
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", ResourceWarning)
        sys.argv = ["supersnn", *words]
        try:
            with contextlib.redirect_stderr(err), at_most(seconds):
                main()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
        except (Exception, TooSlow) as raised:
            error, code = raised, 1
        finally:
            sys.argv = before
    texts = tuple(f"{one.category.__name__}: {one.message}" for one in warned)
    return Ended(" ".join(words), code, out.text(), err.text(), time.monotonic() - began, error, texts)
