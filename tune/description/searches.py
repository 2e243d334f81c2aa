"""The searches of a sweep: every arm on every data set in every replicate, with what is its own."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from supersnn.records.searches import SearchId
from tune.description.arms import Arm, resolve, resolve_again
from tune.description.replication import labels, least_replicates, sweep_of_cell
from tune.description.sweep import SweepConfig


@dataclass(frozen=True)
class PlannedSearch:
    """One search.

    Attributes:
        name: see `supersnn.records.searches`.
        arm: with its data set and the replicate's seeds.
        sweep: of its cell alone: the data set and the replicate in which the arms are compared.
        dataset: the label of its data set, None where the sweep has one under `dataset`.
        replicate: from 0.
    """

    name: str
    arm: Arm
    sweep: SweepConfig
    dataset: str | None = None
    replicate: int = 0

    @property
    def place(self) -> dict[str, Any]:
        """The fields by which events name it."""
        return {"arm": self.arm.name, "dataset": self.dataset, "replicate": self.replicate}

    @property
    def cell(self) -> tuple[str | None, int]:
        """Its data set and replicate."""
        return self.dataset, self.replicate

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that each of its trials is trained with."""
        return tuple(range(self.sweep.seed, self.sweep.seed + self.sweep.search.seeds_per_trial))


def planned(
    sweep: SweepConfig, arms: Mapping[str, Arm] | None = None, replicates: int | None = None
) -> dict[str, PlannedSearch]:
    """Return a sweep's searches by name: replicate by replicate, data set by data set, arm by arm.

    Args:
        sweep: the sweep.
        arms: its arms, where they have been resolved already.
        replicates: how many; by default those that the sweep begins with.

    Raises:
        UserError: see `resolve`.
    """
    searches = {}
    first = resolve(sweep) if arms is None else arms
    for replicate in range(least_replicates(sweep) if replicates is None else replicates):
        for position, label in enumerate(labels(sweep)):
            alone = sweep_of_cell(sweep, label, replicate)
            of_cell = resolve_again(alone) if position or replicate else first
            for name, arm in of_cell.items():
                search = str(SearchId(name, label if position else None, replicate))
                searches[search] = PlannedSearch(search, arm, alone, label, replicate)
    return searches
