"""`UserError`: a mistake that the user can fix. The command line prints it in one line and exits with 2.

`ExternalError`: what the sweep depends on has failed. The command line prints it in one line as well, and exits with 1.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Self


class UserError(Exception):
    """A mistake that the user can fix; the text names the file or key, the value, and what was expected."""


class ExternalError(Exception):
    """A database, a disk, a server or a cluster has failed; the text names it, and the same command continues."""


class Origin(str):
    """Where a configuration is from, named in errors: as text all of its files, for one key the file that gave it."""

    _files: dict[str, Collection[str]]

    def __new__(cls, text: str, files: Mapping[str, Collection[str]]) -> Self:
        """Return the origin; `files` maps each file to the dotted keys that it gives, later files win."""
        origin = super().__new__(cls, text)
        origin._files = dict(files)
        return origin

    def with_source(self, source: str, keys: Collection[str]) -> "Origin":
        """Return this origin with keys that another source gives, such as an option, after all files."""
        return Origin(self, {**self._files, source: keys})

    def of(self, key: str) -> str:
        """Return the last file that gave a dotted key, or most of it; all files where none gave any of it."""
        while key:
            for file in reversed(list(self._files)):
                if key in self._files[file]:
                    return file
            key = key.rpartition(".")[0]
        return self


def named(origin: str, key: str) -> str:
    """Return what an error about a dotted key names as its place: of an `Origin` with several files, one of them."""
    return origin.of(key) if isinstance(origin, Origin) else origin


@contextmanager
def prefix_errors(key: str, separator: str = ": ") -> Iterator[None]:
    """Put a configuration key, or an `Origin`, in front of the text of a `UserError` that is raised in the block."""
    try:
        yield
    except UserError as error:
        about = ".".join(str(error).split(": ")[:2])
        raise UserError(f"{named(key, about)}{separator}{error}") from error


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the known word closest to `word`, or an empty string."""
    close = get_close_matches(word[:200], list(known), n=1, cutoff=0.6)
    return f" (did you mean {close[0]!r}?)" if close else ""


def described(error: BaseException, most: int = 200) -> str:
    """Return an exception's type and text as one line; of the text at most so many characters."""
    name = type(error).__name__
    return f"{name}: {shortened(str(error), most)}" if str(error) else name


def shortened(text: str, most: int = 80) -> str:
    """Return a text as one line of printable characters, at most so many, cut behind a word where one is near."""
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in " ".join(text[: 10 * most].split()))
    if len(line) <= most:
        return line
    start, _, word = line[: most - 1].rpartition(" ")
    return f"{start} …" if start and len(word) <= most // 4 else f"{line[: most - 1]}…"
