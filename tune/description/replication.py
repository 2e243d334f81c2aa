"""The data sets and replicates of a sweep: how `datasets` is read, and the sweep of a cell, a data set in a replicate.

Replicate r draws its random numbers from seeds of its own: those of the sweep file plus r times `SEED_STEP`. Replicate
0 is the sweep as it is without replicates.
"""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, get_args

from pydantic import Discriminator, Field, Tag, ValidationError, model_validator

from supersnn.config import DatasetConfig
from supersnn.config_model import ConfigModel, Count, Integer, Positive
from supersnn.nested import merge
from supersnn.records.contents import SweepContents

if TYPE_CHECKING:
    from tune.description.sweep import SweepConfig

Varied = Literal["search", "teacher", "split"]
"""What a replicate may draw anew; see `SweepConfig`."""
SEED_STEP = 10_000_000
"""The distance between the seeds of two replicates: more than any number of seeds that verify or rank."""
LABEL = r"[A-Za-z0-9][A-Za-z0-9_.-]*"


class ReplicatesUntil(ConfigModel):
    """Replicates that are added one by one until the differences between arms are known well enough.

    After `at_least` replicates, and after each further one, up to `at_most`, the 95 % intervals of all planned
    comparisons on each data set are computed, valid under this stopping. No replicate is added once half the width of
    the widest is at most `until` points of accuracy.
    """

    until: Positive
    at_least: Integer = Field(3, ge=2)
    at_most: Integer = Field(12, ge=2)

    @model_validator(mode="after")
    def _room(self) -> Self:
        if self.at_most < self.at_least:
            raise ValueError(f"at_most: expected at least at_least, {self.at_least}, found {self.at_most}")
        return self


def _form(value: Any) -> str:
    return "ReplicatesUntil" if isinstance(value, Mapping | ReplicatesUntil) else "number"


Replicates = Annotated[
    Annotated[Count, Tag("number")] | Annotated[ReplicatesUntil, Tag("ReplicatesUntil")], Discriminator(_form)
]
"""How many replicates there are: a number, or what it depends on."""


def complete_datasets(data: Any) -> Any:
    """Return a sweep file with its `datasets` complete: a mapping from labels, each merged over `dataset`.

    In the file it is a list of names, or a mapping from labels to keys of `dataset` (or to a name alone). A data set
    without a name has its label as name. The first one becomes `dataset`.

    Raises:
        ValueError: a label is not valid, or given twice.
    """
    if not isinstance(data, Mapping) or not data.get("datasets"):
        return data
    common = data.get("dataset") or {}
    described = _by_label(data["datasets"])
    if not isinstance(common, Mapping) or described is None:
        return data
    complete = {label: _complete(label, keys, common) for label, keys in described.items()}
    first_label, first = next(iter(complete.items()))
    try:
        DatasetConfig.model_validate(first)
    except ValidationError:  # is told of `datasets`, not of `dataset` as well
        first = {"name": first_label}
    return {**data, "datasets": complete, "dataset": first}


def _by_label(datasets: Any) -> Mapping[str, Any] | None:
    """Return data sets by label, None where they are neither a list of names nor a mapping."""
    if isinstance(datasets, list | tuple) and all(isinstance(name, str) for name in datasets):
        for name in datasets:
            if datasets.count(name) > 1:
                raise ValueError(f"datasets: {name!r} is given twice; give each once")
            if not re.fullmatch(LABEL, name):
                raise ValueError(
                    f"datasets: {name!r} cannot be a label (letters, digits, '_', '.', '-'); give it one, as in "
                    f"datasets: {{mine: {{name: {name!r}}}}}"
                )
        return {name: {"name": name} for name in datasets}
    return datasets if isinstance(datasets, Mapping) else None


def _complete(label: Any, keys: Any, common: Mapping[str, Any]) -> Any:
    if isinstance(keys, str):
        keys = {"name": keys}
    own = {} if keys is None else keys
    return merge({"name": label, **common}, own) if isinstance(own, Mapping) else own


def varied(value: Any) -> Any:
    """Return what varies between replicates in its usual order, always with `search`; other values as they are."""
    if isinstance(value, list | tuple) and all(one in get_args(Varied) for one in value):
        return tuple(part for part in get_args(Varied) if part == "search" or part in value)
    return value


def labels(sweep: "SweepConfig") -> tuple[str | None, ...]:
    """Return the labels of a sweep's data sets, None alone where it has one under `dataset`."""
    return tuple(sweep.datasets) if sweep.datasets else (None,)


def until(sweep: "SweepConfig") -> ReplicatesUntil | None:
    """Return what the number of replicates depends on, None where it is given."""
    return sweep.replicates if isinstance(sweep.replicates, ReplicatesUntil) else None


def least_replicates(sweep: "SweepConfig") -> int:
    """Return how many replicates a sweep begins with."""
    return sweep.replicates.at_least if isinstance(sweep.replicates, ReplicatesUntil) else sweep.replicates


def most_replicates(sweep: "SweepConfig") -> int:
    """Return how many replicates a sweep may come to have."""
    return sweep.replicates.at_most if isinstance(sweep.replicates, ReplicatesUntil) else sweep.replicates


def replicates_begun(state: SweepContents) -> int:
    """Return how many replicates of a sweep have begun, at least one."""
    return max((search.replicate + 1 for search in state.searches.values()), default=1)


def replicates_now(sweep: "SweepConfig", state: SweepContents) -> int:
    """Return how many replicates a sweep has now: those that it is given, or begins with and has added."""
    if (wanted := until(sweep)) is None:
        return least_replicates(sweep)
    added = min(state.looks[-1].next, wanted.at_most) if state.looks else 0
    return max(wanted.at_least, added, replicates_begun(state))


def searches_per_arm(sweep: "SweepConfig") -> int:
    """Return how many searches each arm has at most."""
    return len(labels(sweep)) * most_replicates(sweep)


def teachers_per_architecture(sweep: "SweepConfig") -> int:
    """Return how many teachers of each architecture a sweep trains at most: replicates share what does not vary."""
    return len(labels(sweep)) * (1 if sweep.vary == ("search",) else most_replicates(sweep))


def folder_label(sweep: "SweepConfig", dataset: str | None) -> str | None:
    """Return a data set's label where it names a folder of exports: that is where the sweep has several."""
    return dataset if len(labels(sweep)) > 1 else None


def sweep_of_cell(sweep: "SweepConfig", dataset: str | None, replicate: int) -> "SweepConfig":
    """Return the sweep of one data set in one replicate alone: that data set, and the replicate's seeds."""
    images = sweep.dataset if dataset is None or not sweep.datasets else sweep.datasets[dataset]
    offset, teacher = SEED_STEP * replicate, sweep.teacher
    if replicate and "teacher" in sweep.vary:
        teacher = teacher.model_copy(update={"seed": teacher.seed + offset})
    if replicate and "split" in sweep.vary:
        first = images.split_seed if images.validation_seed is None else images.validation_seed
        images = images.model_copy(update={"validation_seed": first + offset})
    verify = sweep.verify.model_copy(update={"first_seed": sweep.verify.first_seed + offset})
    return sweep.model_copy(
        update={
            "dataset": images,
            "datasets": None,
            "replicates": 1,
            "seed": sweep.seed + offset,
            "teacher": teacher,
            "verify": verify,
        }
    )
