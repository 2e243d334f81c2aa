"""The rows of a sweep's board: an arm on a data set, its replicates together."""

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean

from supersnn.records.search_state import SearchRecord
from supersnn.records.searches import SearchId
from supersnn.records.state import SweepState
from tune.description.replication import labels, replicates_now
from tune.description.sweep import SweepConfig


@dataclass(frozen=True)
class Row:
    """The searches of one arm on one data set, by replicate.

    Attributes:
        name: the arm's, after the data set's label where the sweep has several.
        arm, dataset: what it is of.
        searches: the records, also of replicates that have not begun.
    """

    name: str
    arm: str
    dataset: str | None
    searches: tuple[SearchRecord, ...]

    @property
    def one(self) -> SearchRecord | None:
        """The only search, None where there are several."""
        return self.searches[0] if len(self.searches) == 1 else None

    @property
    def ended(self) -> int:
        """How many trials have ended."""
        return sum(search.ended for search in self.searches)

    def count(self, end: str) -> int:
        """Return how many trials have ended in a way."""
        return sum(count for search in self.searches for name, count in search.counts.items() if name == end)

    def running(self) -> dict[str, int]:
        """Return the epochs of the trials under way, by their names on the board."""
        prefixes = [f"r{search.replicate}" if self.one is None else "" for search in self.searches]
        named = zip(prefixes, self.searches, strict=True)
        return {f"{prefix}#{trial}": epoch for prefix, search in named for trial, epoch in dict(search.running).items()}

    def verified(self) -> int:
        """Return how many final runs of winners there are."""
        return sum(len(search.final_runs()) for search in self.searches)

    def best_value(self) -> float | None:
        """Return the mean over the replicates of their best trials' values; None before the first."""
        values = [value for search in self.searches if (value := search.best_value) is not None]
        return fmean(values) if values else None


def rows(sweep: SweepConfig, state: SweepState) -> Iterator[Row]:
    """Yield a row for each arm on each data set, in the order of the sweep's file."""
    several, replicates = len(labels(sweep)) > 1, replicates_now(sweep, state)
    for position, label in enumerate(labels(sweep)):
        for arm in sweep.arms:
            names = [SearchId(arm, label if position else None, replicate) for replicate in range(replicates)]
            searches = tuple(state.search(str(name)) for name in names)
            yield Row(f"{label} {arm}" if several else arm, arm, label, searches)
