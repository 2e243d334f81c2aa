"""The task of a search: what must agree for its values to be comparable with those of an earlier sweep's search."""

from collections.abc import Callable, Iterator
from functools import cache

from pydantic_core import to_jsonable_python

from supersnn.config import AugmentConfig, LoopConfig, NetworkConfig, NeuronConfig
from supersnn.config_model import ConfigModel
from supersnn.digests import EXCLUDE_DEFAULT_FROM_DIGEST, digest
from supersnn.nested import Scalar, flatten
from supersnn.records import journal
from supersnn.records.state import SweepState
from tune.description.searches import PlannedSearch
from tune.store import Store

SplitOf = Callable[[str, str], str | None]
"""Returns the split fingerprint of a search's images, by the names of its sweep and its own; None if not known."""
_SECTIONS: dict[str, type[ConfigModel]] = {"student": NetworkConfig, "neuron": NeuronConfig, "train": LoopConfig}
_ROUNDING = {f"train.{key}" for key in ("threads", "shards", "channels_last", "graph", "deterministic", "tf32")}
"""Keys of a training that change the rounding of its results only."""
_NOT_COMPARED = {*_ROUNDING, "train.metrics", "student.architecture"}


def task(search: PlannedSearch) -> str:
    """Return a digest of what makes the values of two searches comparable.

    It is of the data set's configuration without its augmentation, the arm's students, the keys of `student`, `neuron`
    and `train` that the arm does not search, the seeds a trial, objectives and constraints.
    """
    settings, images = search.sweep.search, search.sweep.dataset.model_copy(update={"augment": AugmentConfig()})
    judged_by = [list(settings.objectives), dict(settings.constraints), settings.seeds_per_trial]
    return digest(images, sorted(search.arm.students), dict(_fixed(search)), judged_by)


def _fixed(search: PlannedSearch) -> Iterator[tuple[str, Scalar]]:
    """Yield the compared keys of an arm's trainings that are not searched, without later ones at their default."""
    for section, model in _SECTIONS.items():
        for name, value in search.arm.base[section].items():
            field = model.model_fields[name]
            if EXCLUDE_DEFAULT_FROM_DIGEST in field.metadata and value == to_jsonable_python(field.default):
                continue
            for key, leaf in flatten({section: {name: value}}).items():
                if key not in search.arm.parameters and key not in _NOT_COMPARED:
                    yield key, leaf


def recorded_splits(store: Store) -> SplitOf:
    """Return what finds split fingerprints in the journals of a store's sweeps, each read once."""

    @cache
    def state_of(sweep: str) -> SweepState:
        state = SweepState()
        for event, _ in journal.read(store.sweep(sweep).journal, kinds=("sweep", "data", "teacher")):
            state.apply(event)
        return state

    def split_of(sweep: str, search: str) -> str | None:
        state = state_of(sweep)
        found = state.search(search)
        return state.split_of(found.dataset, found.replicate)

    return split_of


def no_splits(_sweep: str, _search: str) -> None:
    """Know no split fingerprint: for studies without a store."""
