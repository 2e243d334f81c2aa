"""`UserError`: a mistake that the user can fix. The command line prints it in one line and exits with 2.

`ExternalError`: what the sweep depends on has failed. The command line prints it in one line as well, and exits with 1.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches


class UserError(Exception):
    """A mistake that the user can fix; the text names the file or key, the value, and what was expected."""


class ExternalError(Exception):
    """A database, a disk, a server or a cluster has failed; the text names it, and the same command continues."""


@contextmanager
def prefix_errors(key: str, separator: str = ": ") -> Iterator[None]:
    """Put a configuration key in front of the text of a `UserError` that is raised in the block."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{key}{separator}{error}") from error


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the known word closest to `word`, or an empty string."""
    close = get_close_matches(word[:200], list(known), n=1, cutoff=0.6)
    return f" (did you mean {close[0]!r}?)" if close else ""


def shortened(text: str, most: int = 80) -> str:
    """Return a text as one line of printable characters, at most so many, cut behind a word where one is near."""
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in " ".join(text[: 10 * most].split()))
    if len(line) <= most:
        return line
    start, _, word = line[: most - 1].rpartition(" ")
    return f"{start} …" if start and len(word) <= most // 4 else f"{line[: most - 1]}…"
