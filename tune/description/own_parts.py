"""Checks of parts of one's own in a sweep, before it starts: each can be imported, and takes its arguments."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from supersnn import parts, plugins
from supersnn.config import TrainConfig
from supersnn.errors import UserError, prefix_errors
from supersnn.nested import flatten
from supersnn.own_losses import needs
from supersnn.own_metrics import check_metrics, name_of
from supersnn.parts import is_import_path
from supersnn.records.metrics import OWN
from tune.description.conditions import combinations, existing
from tune.description.own_search import own_pruner, own_sampler
from tune.description.space import Values
from tune.description.sweep import SweepConfig

if TYPE_CHECKING:
    from tune.description.arms import Arm

PART_KEYS = {
    "dataset": "dataset.name",
    "student": "student.architecture",
    "neuron": "neuron.kind",
    "teacher": "teacher.name",
    "loss.relation": "loss.relation.kind",
    "optimizer": "optimizer.name",
}
"""The key that names a part, by the section that has its arguments."""
_OFFERED = ("layers", "shape", "channels", "side", "classes", "steps", "params", "lr")
_SINGLE = ("neuron.kind", "neuron.surrogate", "loss.relation.kind", "optimizer.name", "student.architecture")


def check_sweep(sweep: SweepConfig) -> None:
    """Check the parts that a sweep names outside of its arms; the packages of its plugins become importable.

    Raises:
        UserError: one cannot be imported, or a constraint names no metric.
    """
    plugins.activate(sweep.plugins)
    check_metrics(sweep.train.metrics)
    for name, own in sweep.loss.own.items():
        with prefix_errors(f"loss.own.{name}.term"):
            needs(own.term)
    if is_import_path(sweep.search.sampler):
        own_sampler(sweep.search.sampler, sweep.search.sampler_arguments, seed=0)
    if is_import_path(sweep.search.scheduler):
        own_pruner(sweep.search.scheduler, sweep.search.scheduler_arguments)
    known = [name_of(path) for path in sweep.train.metrics]
    for key in sweep.search.constraints:
        if key.startswith(OWN) and key not in known:
            raise UserError(f"search.constraints: {key!r} is no metric of train.metrics")


def check_arms(sweep: SweepConfig, arms: Mapping[str, "Arm"]) -> None:
    """Check the parts that arms choose from, and that what is not installed is named under `plugins`.

    Raises:
        UserError: one cannot be imported, or would not be found by workers.
    """
    for section, (_, arguments) in sweep.arguments().items():
        used = {name for arm in arms.values() for name in _names(arm, section) if is_import_path(name)}
        for argument in arguments:
            if not used:
                raise UserError(f"{section}.arguments: no arm uses a part of your own, whose arguments they are")
            if not any(parts.accepts(path, argument) for path in used):
                where = f"{section}.arguments"
                path = min(used)
                parts.check_arguments(path, parts.function(path), _OFFERED, [argument], where)
    for path in paths_of(sweep, arms):
        parts.load(path)
        _require_found_by_workers(path)


def paths_of(sweep: SweepConfig, arms: Mapping[str, "Arm"]) -> list[str]:
    """Return the import paths that a sweep names, each once."""
    found = [own.term for own in sweep.loss.own.values()]
    found += [*sweep.train.metrics, sweep.search.sampler, sweep.search.scheduler, sweep.dataset.name]
    for arm in arms.values():
        fixed = flatten(arm.base)
        found += [*arm.teachers, *arm.students, str(fixed["dataset.name"])]
        for key in _SINGLE:
            parameter = arm.parameters.get(key)
            choices = parameter.categorical if parameter is not None and parameter.categorical else (fixed[key],)
            found += [str(choice) for choice in choices]
    return [path for path in dict.fromkeys(found) if is_import_path(path)]


def _names(arm: "Arm", section: str) -> Iterator[str]:
    """Yield the names of the parts of a section that an arm may use."""
    if section == "teacher":
        yield from arm.teachers
        return
    key = PART_KEYS[section]
    parameter = arm.parameters.get(key)
    choices = parameter.categorical if parameter is not None and parameter.categorical else ()
    yield from map(str, choices or (flatten(arm.base).get(key),))


def trainings(arm: "Arm") -> Iterator[TrainConfig]:
    """Yield a training of an arm for each combination of the parts of one's own that it chooses from; none without."""
    fixed = flatten(arm.base)
    if not any(is_import_path(str(value)) for value in fixed.values()) and not any(
        is_import_path(str(choice)) for one in arm.parameters.values() for choice in one.categorical or ()
    ):
        return
    keys = [key for key in (*_SINGLE, "teacher.name") if key in arm.parameters]
    for values in combinations(arm.parameters, fixed, keys):
        yield arm.config(existing(arm.parameters, fixed, values))


def with_accepted_arguments(training: dict[str, Any], values: Values) -> dict[str, Any]:
    """Return a training without the fixed arguments that the parts in it do not have; those in `values` stay.

    Of the parts that arms choose from, each takes the arguments that it has parameters for.
    """
    flat = flatten(training)
    for section, key in PART_KEYS.items():
        prefix, name = f"{section}.arguments.", str(flat.get(key))
        for argument in (found.removeprefix(prefix) for found in flat if found.startswith(prefix)):
            accepted = is_import_path(name) and parts.accepts(name, argument)
            if prefix + argument not in values and not accepted:
                training = _without(training, [*section.split("."), "arguments", argument])
    return training


def _without(data: Mapping[str, Any], path: list[str]) -> dict[str, Any]:
    """Return a copy of nested data without the value at a path."""
    name, *rest = path
    if not rest:
        return {key: value for key, value in data.items() if key != name}
    return {**data, name: _without(data[name], rest)}


def _require_found_by_workers(path: str) -> None:
    package = path.partition(":")[0].partition(".")[0]
    if package in plugins.active() or plugins.distribution_of(package) is not None:
        return
    folder = plugins.folder_of(package)
    where = f", as {folder}" if folder is not None else ""
    raise UserError(
        f"{path!r}: {package!r} is not installed, so that workers would not find it; name it under plugins{where}"
    )
