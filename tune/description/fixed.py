"""What is fixed once a sweep has begun: all keys but a few that set how much is done, and on what machines."""

from supersnn.digests import digest
from tune.description.sweep import ResourcesConfig, SweepConfig

MAY_CHANGE = (
    "search.trials", "search.hours", "search.gpu_hours", "search.stagnation", "search.max_failures", "verify.seeds",
    "verify.top", "resources.", "checkpoint.", "replicates", "datasets", "plugins", "target",
    "export.",
)  # fmt: skip
"""Prefixes of the keys that a sweep may be continued with another value of.

Replicates and data sets can only be added: see `dataset_digests`, and `tune.sweep_lock`.
"""


def fixed_digest(sweep: SweepConfig) -> str:
    """Return a digest of all keys of a sweep but those of `MAY_CHANGE`; of its data sets it is of the first one."""
    search = sweep.search.model_copy(update={"max_failures": 2, "stagnation": None})
    return _without_budget(
        sweep.model_copy(update={"search": search, "verify": sweep.verify.model_copy(update={"top": 1})})
    )


def has_digest(sweep: SweepConfig, digest: str) -> bool:
    """Return whether a digest is a sweep's: by `fixed_digest`, or as it was when fewer keys could be changed."""
    return digest in (fixed_digest(sweep), _without_budget(sweep))


def _without_budget(sweep: SweepConfig) -> str:
    search = sweep.search.model_copy(update={"trials": 1, "hours": None, "gpu_hours": None})
    verify = sweep.verify.model_copy(update={"seeds": 1})
    resources = ResourcesConfig(gpus=0.0)  # as the defaults were when the first digests were written
    added = {"datasets": None, "replicates": 1}
    return digest(sweep.model_copy(update={"search": search, "verify": verify, "resources": resources, **added}))


def dataset_digests(sweep: SweepConfig) -> dict[str, str]:
    """Return a digest of each of a sweep's `datasets`, by label in order; nothing where it has one under `dataset`."""
    return {label: digest(images) for label, images in (sweep.datasets or {}).items()}
