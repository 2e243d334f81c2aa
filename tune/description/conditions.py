"""Conditional search parameters: their order, cycles among their conditions, and whether each condition can hold."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from supersnn.errors import UserError, shortened
from supersnn.nested import Scalar
from tune.description.space import SearchParameter, Values, allows

MOST_COMBINATIONS = 20_000
"""How many combinations of values are tried; what is not decided by then counts as possible."""


def ordered(parameters: Mapping[str, SearchParameter]) -> dict[str, SearchParameter]:
    """Return the parameters with every one after those that its condition names, otherwise in the given order.

    Raises:
        UserError: conditions depend on each other in a cycle.
    """
    result: dict[str, SearchParameter] = {}

    def place(key: str, path: tuple[str, ...]) -> None:
        if key in path:
            cycle = " → ".join((*path[path.index(key) :], key))
            raise UserError(f"space.{key}: its condition depends on itself: {shortened(cycle, 200)}")
        if key in result:
            return
        for parent in parameters[key].when or {}:
            if parent in parameters:
                place(parent, (*path, key))
        result[key] = parameters[key]

    for key in parameters:
        place(key, ())
    return result


def existing(parameters: Mapping[str, SearchParameter], fixed: Mapping[str, Any], wanted: Values) -> Values:
    """Return the values of a trial: the wanted ones, else the first of each range; without those that do not exist.

    Args:
        parameters: in the order of `ordered`.
        fixed: the values of the keys that are not searched.
        wanted: values of some parameters.
    """
    values: Values = {}
    for key, parameter in parameters.items():
        if parameter.exists({**fixed, **values}):
            values[key] = wanted[key] if key in wanted else parameter.samples()[0]
    return values


def combinations(
    parameters: Mapping[str, SearchParameter], fixed: Mapping[str, Any], keys: Sequence[str]
) -> Iterator[Values]:
    """Yield values of `keys`, and of all that their conditions depend on, that a trial can have together.

    Of `keys` these are their `samples`; of the others, the values that conditions name, and one that none names.
    """
    needed = _with_parents(parameters, keys)
    domains = {key: _domain(key, parameters, needed, key in keys) for key in parameters if key in needed}
    yield from islice(_assignments(parameters, fixed, domains), MOST_COMBINATIONS)


def enabling(parameters: Mapping[str, SearchParameter], fixed: Mapping[str, Any], key: str) -> Values | None:
    """Return values of other parameters under which a parameter exists, None where there are none."""
    for values in combinations(parameters, fixed, [key]):
        if key in values:
            return {other: value for other, value in values.items() if other != key}
    return None


def _with_parents(parameters: Mapping[str, SearchParameter], keys: Sequence[str]) -> set[str]:
    needed: set[str] = set()
    waiting = [key for key in keys if key in parameters]
    while waiting:
        key = waiting.pop()
        if key not in needed:
            needed.add(key)
            waiting += [parent for parent in parameters[key].when or {} if parent in parameters]
    return needed


def _domain(key: str, parameters: Mapping[str, SearchParameter], needed: set[str], whole: bool) -> list[Scalar]:
    parameter = parameters[key]
    named = [
        value
        for other in needed
        for value in allowed((parameters[other].when or {}).get(key, ()))
        if parameter.accepts(value)
    ]
    values = list(dict.fromkeys(named))
    if whole:
        return values + [value for value in parameter.samples() if not allows(tuple(named), value)]
    another = parameter.another(values)
    return values if another is None else [*values, another]


def allowed(values: Scalar | tuple[Scalar, ...]) -> tuple[Scalar, ...]:
    """Return the values that a condition allows."""
    return values if isinstance(values, tuple) else (values,)


def _assignments(
    parameters: Mapping[str, SearchParameter], fixed: Mapping[str, Any], domains: Mapping[str, Sequence[Scalar]]
) -> Iterator[Values]:
    """Yield every combination, parameter by parameter, without those whose condition does not hold."""
    keys = list(domains)

    def extended(position: int, values: Values) -> Iterator[Values]:
        if position == len(keys):
            yield values
            return
        key = keys[position]
        if not parameters[key].exists({**fixed, **values}):
            yield from extended(position + 1, values)
            return
        for value in domains[key]:
            yield from extended(position + 1, {**values, key: value})

    yield from extended(0, {})
