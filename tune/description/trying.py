"""Tries the values of a search space before a sweep starts: each is given to a training's configuration."""

from typing import TYPE_CHECKING

from supersnn.errors import UserError, shortened
from supersnn.nested import Scalar, flatten
from tune.description.conditions import combinations, enabling, existing

if TYPE_CHECKING:
    from tune.description.arms import Arm


def try_values(arm: "Arm") -> None:
    """Try every choice and short range of integers of an arm, the ends of all other ranges, and its fixed values.

    Each is tried with the first values of the others, and the lowest and the highest of all are tried together. The
    weights of losses are tried in every combination, because they may not all be zero.

    Raises:
        UserError: a training cannot have one; the text names the key.
    """
    fixed = flatten(arm.base)
    held = flatten(arm.config(existing(arm.parameters, fixed, {}), "space"))
    for key in fixed:
        if key not in arm.parameters and key in held and not _same(fixed[key], held[key]):
            raise UserError(f"set: {key}: expected a value like {held[key]!r}, found {shortened(repr(fixed[key]))}")
    for key, parameter in arm.parameters.items():
        others = enabling(arm.parameters, fixed, key)
        if others is None:
            continue  # it exists in another arm: `references` has checked that
        for value in parameter.samples():
            values = existing(arm.parameters, fixed, {**others, key: value})
            found = flatten(arm.config(values, "space"))[key]
            if not _same(value, found):
                raise UserError(
                    f"space.{key}: expected a value like {found!r}, found {shortened(repr(value))}, which is of "
                    "another type"
                )
    for end in (0, -1):
        wanted = {key: parameter.samples()[end] for key, parameter in arm.parameters.items()}
        arm.config(existing(arm.parameters, fixed, wanted), "space")
    weights = [key for key in arm.parameters if key.startswith("loss.") and key.endswith(".weight")]
    for wanted in combinations(arm.parameters, fixed, weights):
        arm.config(existing(arm.parameters, fixed, wanted), "space")


def _same(value: Scalar, held: Scalar) -> bool:
    """Return whether a configuration holds a value as it was given; an integer may be held as a float."""
    if isinstance(value, bool) or isinstance(held, bool):
        return value is held
    if isinstance(value, int) and isinstance(held, float):
        return float(value) == held
    return type(value) is type(held) and value == held
