"""The data sets and replicates of a sweep: how `datasets` is read, and the sweep of a cell, a data set in a replicate.

Replicate r draws its random numbers from seeds of its own: those of the sweep file plus r times `SEED_STEP`. Replicate
0 is the sweep as it is without replicates.
"""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, get_args

from pydantic import ValidationError

from supersnn.config import DatasetConfig
from supersnn.config_model import merge

if TYPE_CHECKING:
    from tune.description.sweep import SweepConfig

Varied = Literal["search", "teacher", "split"]
"""What a replicate may draw anew; see `SweepConfig`."""
SEED_STEP = 10_000_000
"""The distance between the seeds of two replicates: more than any number of seeds that verify or rank."""
LABEL = r"[A-Za-z0-9][A-Za-z0-9_.-]*"


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


def searches_per_arm(sweep: "SweepConfig") -> int:
    """Return how many searches each arm has."""
    return len(labels(sweep)) * sweep.replicates


def teachers_per_architecture(sweep: "SweepConfig") -> int:
    """Return how many teachers of each architecture a sweep trains: replicates share them where nothing varies."""
    return len(labels(sweep)) * (1 if sweep.vary == ("search",) else sweep.replicates)


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
