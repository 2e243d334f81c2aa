"""Checks of a sweep's settings against each other, before its arms are resolved: names, budget, seeds, sampler."""

import re
from collections.abc import Iterable

from analysis.arms import comparisons
from supersnn.digests import digest
from supersnn.errors import UserError, shortened
from supersnn.nested import flatten
from tune.description.replication import SEED_STEP, most_replicates, until
from tune.description.sweep import NAME, SweepConfig

LONGEST_NAME = 100
"""Characters of a sweep's or an arm's name: both are names of files, folders, studies and runs."""
RESERVED = ("overall",)
"""Names that an arm cannot have: `best/overall` is the export of the best arm."""
LARGEST = {
    "dataset.augment.crop": 10_000,
    "dataset.augment.cutout": 10_000,
    "dataset.augment.views": 1_000_000,
    "dataset.split_seed": 2**53,
    "dataset.validation_seed": 2**53,
    "replicates": 1000,
    "replicates.at_most": 1000,
    "replicates.at_least": 1000,
    "search.max_failures": 1_000_000,
    "search.min_epochs": 1_000_000,
    "search.reduction": 1_000_000,
    "search.seeds_per_trial": 1_000_000,
    "search.startup": 10_000,
    "search.trials": 1_000_000,
    "seed": 2**53,
    "student.time_steps": 10_000,
    "teacher.epochs": 1_000_000,
    "teacher.seed": 2**53,
    "train.batch_size": 1_000_000,
    "train.epochs": 1_000_000,
    "train.threads": 10_000,
    "verify.first_seed": 2**53,
    "verify.rank_seeds": 1_000_000,
    "verify.seeds": 1_000_000,
    "verify.top": 1_000_000,
}
"""The largest values of keys: beyond them a number is a slip, and would fill the memory or never end."""


MOST_DATASETS = 100
MOST_ARMS, MOST_ARCHITECTURES, MOST_PARAMETERS, MOST_ENQUEUED = 100, 100, 200, 10_000


def check(sweep: SweepConfig) -> None:
    """Check a sweep's settings.

    Raises:
        UserError: two of them contradict each other, or one cannot be fulfilled.
    """
    values = flatten(sweep)
    for key, most in LARGEST.items():
        if isinstance(value := values.get(key), int) and value > most:
            raise UserError(f"{key}: expected at most {most:,}, found {value:,}")
    _check_counts(sweep)
    _check_names(sweep)
    _check_seeds(sweep)
    _check_search(sweep)
    _check_replicates(sweep)
    if sweep.teacher.name is not None:
        raise UserError(
            f"teacher.name: {shortened(sweep.teacher.name)!r} belongs to an arm: name it in arms.NAME.teachers"
        )


def _check_counts(sweep: SweepConfig) -> None:
    counts = [
        ("arms", len(sweep.arms), MOST_ARMS),
        ("datasets", len(sweep.datasets or {}), MOST_DATASETS),
        ("space", len(sweep.space), MOST_PARAMETERS),
        ("search.enqueue", len(sweep.search.enqueue), MOST_ENQUEUED),
    ]
    for name, arm in sweep.arms.items():
        counts += [
            (f"arms.{shortened(name)}.space", len(arm.space), MOST_PARAMETERS),
            (f"arms.{shortened(name)}.students", len(arm.students), MOST_ARCHITECTURES),
            (f"arms.{shortened(name)}.teachers", len(arm.teachers), MOST_ARCHITECTURES),
        ]
    for key, count, most in counts:
        if count > most:
            raise UserError(f"{key}: expected at most {most:,}, found {count:,}")


def _check_names(sweep: SweepConfig) -> None:
    labels = sweep.datasets or {}
    named = (("name", sweep.name), *(("arms", arm) for arm in sweep.arms), *(("datasets", label) for label in labels))
    for key, name in named:
        if not re.fullmatch(NAME.strip("^$"), name):
            raise UserError(f"{key}: {shortened(name)!r} is no valid name (letters, digits, '_', '.', '-')")
        if len(name) > LONGEST_NAME:
            raise UserError(
                f"{key}: {shortened(name)!r} has {len(name)} characters; expected at most {LONGEST_NAME}: "
                "it is the name of a folder"
            )
    seen: dict[str, tuple[str, str]] = {}
    for key, name in named[1:]:
        if name.lower() in RESERVED:
            raise UserError(f"{key}: {name!r} is reserved for the export of the best arm; choose another name")
        other_key, other = seen.setdefault(name.lower(), (key, name))
        if other_key != key:
            raise UserError(f"{key}: {name!r} is a name under {other_key} as well; choose another label")
        if other != name:
            raise UserError(f"{key}: {other!r} and {name!r} differ in case only, so that their folders may be the same")


def _check_seeds(sweep: SweepConfig) -> None:
    """Check that verification uses seeds that chose nothing, in any replicate."""
    verify = sweep.verify
    searched = range(sweep.seed, sweep.seed + sweep.search.seeds_per_trial)
    fresh = range(verify.first_seed, verify.first_seed + verify.seeds)
    replicates = most_replicates(sweep)
    for step in range(1 - replicates, replicates):
        drawn = range(searched.start + step * SEED_STEP, searched.stop + step * SEED_STEP)
        if drawn.start < fresh.stop and fresh.start < drawn.stop:
            where = f"of replicate {step}" if step > 0 else ""
            raise UserError(
                f"verify.first_seed: the final runs have the seeds {_text(fresh)}, the search{where and ' '}{where} "
                f"{_text(drawn)}; expected seeds that chose nothing: set another verify.first_seed"
            )


def _check_replicates(sweep: SweepConfig) -> None:
    """Check that what is to vary can vary, and that each data set is there once."""
    if until(sweep) is not None and not comparisons(list(sweep.arms)):
        raise UserError("replicates: until needs arms that are compared: direct and another, or both kinds of pairing")
    if "teacher" in sweep.vary and sweep.teacher.weights is not None:
        raise UserError(f"vary: the teacher is {sweep.teacher.weights}, the same in all replicates; remove 'teacher'")
    seen: dict[str, str] = {}
    for label, images in (sweep.datasets or {}).items():
        if (other := seen.setdefault(digest(images), label)) != label:
            raise UserError(f"datasets: {other!r} and {label!r} are the same images; give each once")


def _text(seeds: range) -> str:
    return str(seeds.start) if len(seeds) == 1 else f"{seeds.start} … {seeds.stop - 1}"


def _check_search(sweep: SweepConfig) -> None:
    search = sweep.search
    if search.min_epochs is not None and search.min_epochs > sweep.train.epochs:
        raise UserError(
            f"search.min_epochs: expected at most train.epochs, {sweep.train.epochs}, found {search.min_epochs}"
        )
    for metric, bound in search.constraints.items():
        if bound < 0:
            raise UserError(f"search.constraints: {metric} is never below 0; the bound {bound:g} cannot be kept")
    for name in search.warm_start:
        if name == sweep.name:
            raise UserError(f"search.warm_start: {name!r} is this sweep itself; name earlier ones")
    _require_distinct("search.warm_start", search.warm_start)
    if search.sampler == "grid" and search.enqueue:
        raise UserError("search.enqueue: sampler grid tries the points of its grid only; remove one of them")
    if search.sampler == "grid" and search.fair == "compute":
        raise UserError("search.fair: compute needs more trials than a grid has points; expected trials")


def _require_distinct(key: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise UserError(f"{key}: {shortened(name)!r} is given twice; give each once")
        seen.add(name)
