"""What a sweep's description allows but hardly means: lines for a dry run and for the start of a sweep."""

from collections.abc import Iterator, Mapping

from supersnn.nested import flatten
from tune.description.arms import Arm
from tune.description.relation_ranges import KIND, SCALE, WEIGHT, outside
from tune.description.space import SearchParameter, allows


def warning_lines(arms: Mapping[str, Arm]) -> list[str]:
    """Return a line for each weight of the relational term at which the term would be negligible, or dominate."""
    found: dict[str, list[str]] = {}
    for name, arm in arms.items():
        if "relation" in arm.terms:
            for text in dict.fromkeys(_weight(arm)):
                found.setdefault(text, []).append(f"arms.{name}")
    return [f"{', '.join(users)}: {WEIGHT} {text}" for text, users in found.items()]


def _weight(arm: Arm) -> Iterator[str]:
    """Yield what is to be said of an arm's weight, or range of weights."""
    fixed, parameter = flatten(arm.base), arm.parameters.get(WEIGHT)
    weights = [fixed[WEIGHT]] if parameter is None else parameter.samples()
    numbers = [float(weight) for weight in weights if isinstance(weight, int | float)]
    if max(numbers, default=0.0) > 0:
        kinds, scales = (_choices(arm, key, fixed[key], parameter) for key in (KIND, SCALE))
        yield from outside(min(numbers), max(numbers), kinds, scales)


def _choices(arm: Arm, key: str, fixed: object, weight: SearchParameter | None) -> list[object]:
    """Return the values that a key can have where the weight exists."""
    searched = arm.parameters[key].categorical if key in arm.parameters else None
    allowed = None if weight is None else (weight.when or {}).get(key)
    return [one for one in searched or (fixed,) if allowed is None or allows(allowed, one)]
