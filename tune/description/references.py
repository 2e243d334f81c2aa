"""Checks of everything in a sweep that refers to keys, values and conditions elsewhere in it."""

from collections.abc import Iterable, Mapping
from math import prod
from typing import TYPE_CHECKING, Any

from supersnn.config import LOSS_TERMS, TrainConfig
from supersnn.config_model import current_key
from supersnn.errors import UserError, nearest, shortened
from supersnn.nested import Scalar, flatten
from tune.description.conditions import allowed, enabling
from tune.description.space import SearchParameter, allows
from tune.description.sweep import ArmConfig, SweepConfig

if TYPE_CHECKING:
    from tune.description.arms import Arm

KEYS: Mapping[str, Scalar] = flatten(
    TrainConfig.model_validate({"dataset": {"name": "digits"}, "student": {"architecture": "resnet8"}})
)
"""Every dotted key of a training, with its default."""
MOST_POINTS = 10_000
"""How many points the grid of an arm may have."""

_BUDGET = ("train.epochs", "train.shards")
_OF_EXPORTS = ("target", "export.")
_ELSEWHERE = {"student.architecture": "students", "teacher.name": "teachers"}


def keys_of(sweep: SweepConfig) -> list[str]:
    """Return the dotted keys of a sweep's trainings: `KEYS`, and those of its loss terms of its own."""
    return [*KEYS, *(f"loss.own.{name}.weight" for name in sweep.loss.own)]


def require_known(key: str, sweep: SweepConfig) -> None:
    """Check that a dotted key is one of a training; arguments of one's own parts are checked with the parts.

    Raises:
        UserError: it is not.
    """
    if not is_known(key, sweep):
        raise UserError(f"{shortened(key)!r} is unknown{nearest(key, keys_of(sweep))}")


def is_known(key: str, sweep: SweepConfig) -> bool:
    """Return whether a dotted key is one of a training."""
    current = current_key(TrainConfig, key)
    holder, _, argument = current.rpartition(".")
    holders = {f"{section}.arguments" for section in (*sweep.arguments(), *(f"loss.own.{n}" for n in sweep.loss.own))}
    holders.add("neuron.surrogate_arguments")
    return current in keys_of(sweep) or (holder in holders and argument.isidentifier())


def check_searched(key: str, parameter: SearchParameter, sweep: SweepConfig) -> None:
    """Check that a key of the search space may be searched, and that its condition names known keys.

    Raises:
        UserError: it may not, or a key is unknown.
    """
    for named in (key, *(parameter.when or {})):
        try:
            require_known(named, sweep)
        except UserError as error:
            raise UserError(f"space.{shortened(key)}: {error}") from error
    if key in _ELSEWHERE:
        raise UserError(f"space.{key}: cannot be searched here: give several {_ELSEWHERE[key]} to an arm")
    if key.startswith(_OF_EXPORTS):
        raise UserError(f"space.{key}: cannot be searched: no training depends on it; set it at the top level")
    if key.startswith(("dataset.", "teacher.")) or key in ("seed", "plugins", "train.metrics"):
        raise UserError(f"space.{key}: cannot be searched: it would change the data or the teachers")
    if key in _BUDGET:
        raise UserError(f"space.{key}: cannot be searched: all trials have the same budget; set it under train")


def check_fixed(arm: ArmConfig, terms: tuple[str, ...], sweep: SweepConfig) -> None:
    """Check the keys under an arm's `set`.

    Raises:
        UserError: one is unknown, has no effect, or would make the arm's budget, images or teachers other ones.
    """
    for key in arm.set:
        current = current_key(TrainConfig, key)
        if current.startswith("dataset."):
            raise UserError(f"set: {key}: all arms of a sweep use the same images; set it at the top level")
        if not is_known(key, sweep):
            raise UserError(f"set: {shortened(key)!r} is unknown{nearest(key, keys_of(sweep))}")
        if current in _ELSEWHERE:
            raise UserError(f"set: {key}: set the arm's {_ELSEWHERE[current]} instead")
        if current.startswith(_OF_EXPORTS):
            raise UserError(f"set: {key}: it is the same for all arms; set it at the top level")
        if current.startswith("teacher.") or current in ("seed", "plugins", "train.metrics"):
            raise UserError(f"set: {key}: all arms share the teachers and the seeds; set it at the top level")
        if current in _BUDGET:
            raise UserError(f"set: {key}: all arms have the same budget; set it at the top level")
        if current in arm.space:
            raise UserError(f"set: {key}: is in the arm's space too; remove one of them")
        for term in (*LOSS_TERMS, *sweep.loss.own):
            if term not in terms and current.startswith((f"loss.{term}.", f"loss.own.{term}.")):
                raise UserError(f"set: {key}: the arm does not use the {term} loss; add it to its losses")


def check(sweep: SweepConfig, arms: Mapping[str, "Arm"]) -> None:
    """Check what refers to the search space: that it is used, its conditions, `enqueue`, and the grid.

    Raises:
        UserError: something refers to nothing, or can never hold.
    """
    for key in sweep.space:
        if not any(key in arm.parameters for arm in arms.values()):
            raise UserError(f"space.{key}: parameter is not used by any arm")
    for term in dict.fromkeys((*sweep.loss.terms_on(), *sweep.loss.own)):
        if not any(term in arm.terms for arm in arms.values()):
            key = f"loss.own.{term}" if term in sweep.loss.own else f"loss.{term}.weight"
            raise UserError(f"{key}: no arm uses this loss; add {term} to the losses of one")
    _check_conditions(sweep, arms)
    for position, values in enumerate(sweep.search.enqueue):
        check_enqueued(f"search.enqueue.{position}", values, arms)
    if sweep.search.sampler == "grid":
        for arm in arms.values():
            _check_grid(sweep, arm)


def _check_conditions(sweep: SweepConfig, arms: Mapping[str, "Arm"]) -> None:
    """Check that every parameter exists in some trial of an arm that has it, under each value of its condition."""
    for key in sweep.space:
        _check_condition(f"space.{key}", key, [arm for arm in arms.values() if key not in sweep.arms[arm.name].space])
    for name, described in sweep.arms.items():
        for key in described.space:
            _check_condition(f"arms.{name}.space.{key}", key, [arms[name]])


def _check_condition(where: str, key: str, arms: Iterable["Arm"]) -> None:
    using = [arm for arm in arms if key in arm.parameters]
    if not using:
        return
    for other, values in (using[0].parameters[key].when or {}).items():
        for value in allowed(values):
            if not any(_possible(arm, other, value) for arm in using):
                raise UserError(f"{where}: when: {other} is never {_shown(value)}{_instead(using, other)}")
    if all(enabling(arm.parameters, flatten(arm.base), key) is None for arm in using):
        raise UserError(f"{where}: when: its conditions never hold together")


def _possible(arm: "Arm", key: str, value: Scalar) -> bool:
    """Return whether a key can have a value in an arm; a parameter that does not exist has its fixed value."""
    parameter = arm.parameters.get(key)
    if parameter is not None and parameter.accepts(value):
        return parameter.categorical is not None or parameter.integer is not None or parameter.step is not None
    return (parameter is None or parameter.when is not None) and flatten(arm.base).get(key) == value


def _instead(arms: Iterable["Arm"], key: str) -> str:
    """Return what a key is instead, for an error."""
    arm = next(iter(arms))
    if key in arm.parameters:
        return f": its range is {shortened(arm.parameters[key].text())}"
    return f": it is {_shown(flatten(arm.base).get(key))}"


def check_enqueued(where: str, values: Mapping[str, Scalar], arms: Mapping[str, "Arm"]) -> None:
    """Check values that are to be tried: each must be one of its range in every arm that searches its key.

    Raises:
        UserError: one is not, is not searched, or would not exist; the text begins with `where`.
    """
    searched = {key for arm in arms.values() for key in arm.parameters}
    if not values:
        raise UserError(f"{where}: expected values of searched keys, found none")
    for key, value in values.items():
        if key not in searched:
            by = f"arm {next(iter(arms))}" if len(arms) == 1 else "any arm"
            raise UserError(f"{where}: {shortened(key)!r} is not searched by {by}{nearest(key, searched)}")
        exists = False
        for arm in arms.values():
            parameter = arm.parameters.get(key)
            if parameter is None:
                continue
            if not parameter.accepts(value):
                raise UserError(
                    f"{where}: {key}: expected a value of {shortened(parameter.text())}, as in arm {arm.name}, found "
                    f"{_shown(value)}"
                )
            exists = exists or _exists(arm, parameter, values)
        if not exists:
            raise UserError(f"{where}: {key}: its condition does not hold under the other values: it would be ignored")


def _exists(arm: "Arm", parameter: SearchParameter, values: Mapping[str, Any]) -> bool:
    """Return whether a parameter can exist beside enqueued values; those that are not given are free."""
    fixed = flatten(arm.base)
    for other, permitted in (parameter.when or {}).items():
        if other in arm.parameters and other not in values:
            continue
        held = values[other] if other in arm.parameters else fixed.get(other)
        if not allows(permitted, held):
            return False
    return True


def _check_grid(sweep: SweepConfig, arm: "Arm") -> None:
    sizes = {key: len(parameter.grid()) for key, parameter in arm.parameters.items()}
    points = prod(sizes.values())
    if points > MOST_POINTS:
        raise UserError(
            f"search.sampler: the grid of arm {arm.name} has {points:,} points ({len(sizes)} parameters); expected at "
            f"most {MOST_POINTS:,}: search fewer parameters, or use another sampler"
        )
    if sweep.search.trials > points:
        raise UserError(
            f"search.trials: the grid of arm {arm.name} has {points} points; expected at most that many trials, found "
            f"{sweep.search.trials}"
        )


def _shown(value: object) -> str:
    return shortened(repr(value))
