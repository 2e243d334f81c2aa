"""Standard output and standard error at the end of a command: written out, full, or without a reader.

A pipe whose reader has gone, as in `supersnn report digits | head -1`, ends a command without a message and with the
exit code that a shell shows for programs which the signal SIGPIPE ends. The signal itself would also end a sweep whose
connection to a database or a server breaks.
"""

import os
import select
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

UNREAD = 128 + signal.SIGPIPE
"""The exit code of a command whose output nobody reads."""


class Output:
    """Standard output and standard error of this process.

    They are watched through descriptors of their own: rich replaces a pipe that nobody reads by the null device.
    """

    def __init__(self) -> None:
        self._descriptors: list[int] = []
        for descriptor in (1, 2):
            with suppress(OSError):  # it is closed
                self._descriptors.append(os.dup(descriptor))

    def is_unread(self) -> bool:
        """Return whether one of them is a pipe without a reader."""
        poll = select.poll()
        for descriptor in self._descriptors:
            poll.register(descriptor, 0)
        return any(event & select.POLLERR for _, event in poll.poll(0))

    @contextmanager
    def written_out(self) -> Iterator[None]:
        """Write everything out at the end of the block, while an error can still be told.

        Raises:
            OSError: standard output is full.
            BrokenPipeError: nobody reads it any more, or the block has lost another connection: typer and rich would
                end the process without a word in both cases.
        """
        try:
            yield
        except SystemExit as ended:
            if isinstance(ended.__context__, BrokenPipeError):
                raise ended.__context__ from None
            raise
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()

    def close(self) -> None:
        """Drop what cannot be written, about which the interpreter would complain at its end."""
        for stream, descriptor in ((sys.__stdout__, 1), (sys.__stderr__, 2)):
            try:
                if stream is not None:
                    stream.flush()
            except OSError:
                nothing = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nothing, descriptor)
                os.close(nothing)
        for descriptor in self._descriptors:
            os.close(descriptor)
