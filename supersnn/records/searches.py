"""The unit of a sweep: a search, which is one arm on one data set in one replicate, and its name.

A search's name takes the place of the arm's wherever something belongs to one search: its Optuna study, the keys of its
trials, its folders. That of an arm's first search, replicate 0 on the sweep's first or only data set, is the arm's own
name, so that a sweep can be given more data sets and replicates later without renaming anything:

    heterogeneous                   first data set, replicate 0
    heterogeneous~2                 first data set, replicate 2
    heterogeneous~fashion-mnist~0   another data set, replicate 0

Names of arms and data sets have no `~`, which every file system and object store takes.
"""

from dataclasses import dataclass
from typing import Self

SEPARATOR = "~"


@dataclass(frozen=True, slots=True)
class SearchId:
    """A search: its arm, its data set's label (None for the sweep's first or only one), its replicate from 0."""

    arm: str
    dataset: str | None = None
    replicate: int = 0

    def __str__(self) -> str:
        """Return the search's name."""
        if self.dataset is not None:
            return SEPARATOR.join((self.arm, self.dataset, str(self.replicate)))
        return f"{self.arm}{SEPARATOR}{self.replicate}" if self.replicate else self.arm

    @classmethod
    def parse(cls, name: str) -> Self:
        """Return the search of a name; a text that is no name of another search is an arm's.

        >>> SearchId.parse("direct~2")
        SearchId(arm='direct', dataset=None, replicate=2)
        """
        arm, *rest = name.split(SEPARATOR)
        number = rest[-1] if rest else ""
        if len(rest) not in (1, 2) or not (number.isascii() and number.isdigit()):
            return cls(name)
        found = cls(arm, rest[0] if len(rest) == 2 else None, int(number))
        return found if str(found) == name else cls(name)


def trial_key(search: str, number: int) -> str:
    """Return a trial's name in its sweep, ``SEARCH/N``: of an arm's first search ``ARM/N``."""
    return f"{search}/{number}"


def split_key(key: str) -> tuple[str, int]:
    """Return search and number of a trial's name.

    Raises:
        ValueError: it ends in no number.
    """
    search, _, number = key.rpartition("/")
    return search, int(number)
