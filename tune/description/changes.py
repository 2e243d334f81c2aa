"""Changes of a sweep that has begun: which ones keep its trials comparable, and the sweep as it was changed."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from supersnn.config_model import parse
from supersnn.errors import UserError, shortened
from supersnn.records.steering import PLANNED, Override
from tune.description.arms import resolve
from tune.description.overrides import path_of, with_override
from tune.description.space import SearchParameter
from tune.description.sweep import SweepConfig

LIVE = (
    "search.trials", "search.hours", "search.gpu_hours", "search.stagnation", "search.max_failures", "verify.seeds",
    "verify.top", "resources.stall",
)  # fmt: skip
"""Keys whose change holds at once. Any other change ends what runs after its current epoch; it is then continued."""
NEXT = ("resources.", "checkpoint.")
"""Prefixes of other keys that set how much is done, and on what machines."""
_FIXED_SPACE = ("grid", "qmc", "cmaes")
"""Samplers that make their designs, or their distributions, for one space."""

Plain = dict[str, Any]


def changed(sweep: SweepConfig, values: Mapping[str, Any], origin: str = "change") -> SweepConfig:
    """Return a sweep with the values of some dotted keys replaced, as `--set` does; it is validated, and resolved.

    Raises:
        UserError: a key is unknown or a value is not valid.
    """
    plain = _plain(sweep)
    for key, value in values.items():
        plain = with_override(plain, key, value)
    after = parse(SweepConfig, plain, origin)
    resolve(after, origin)
    return after


def plan_of(sweep: SweepConfig) -> dict[str, float]:
    """Return the numbers that a sweep has at the keys of `PLANNED`."""
    found = {key: value_at(sweep, key) for key in PLANNED}
    return {key: value for key, value in found.items() if isinstance(value, int | float)}


def changed_plain(plain: Mapping[str, Any], values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a sweep as plain nested values with the values of some dotted keys replaced.

    It is returned as it was where that is not valid, as an earlier driver's change of another file may be.
    """
    try:
        return changed(parse(SweepConfig, dict(plain), "sweep"), values).model_dump(mode="json")
    except UserError:
        return plain


def value_at(sweep: SweepConfig, key: str) -> Any:
    """Return the plain value that a sweep has at a dotted key, None where it has none."""
    value: Any = _plain(sweep)
    for part in path_of(value, key):
        if not isinstance(value, Mapping) or part not in value:
            return None
        value = value[part]
    return value


def before_change(sweep: SweepConfig, key: str, known: Override | None) -> Any:
    """Return the value of a key that a sweep, as it was given, had before any change that still holds of it.

    Args:
        sweep: as it was given: by its file, or as it was changed.
        key: its dotted key.
        known: the last change of the key before.
    """
    return known.before if known is not None and not is_outdated(sweep, known) else value_at(sweep, key)


def is_outdated(sweep: SweepConfig, change: Override) -> bool:
    """Return whether a sweep, as it was given, has neither what a change found there nor what it made of it."""
    given = value_at(sweep, change.key)
    if change.holds_over(given):
        return False
    try:
        return bool(given != value_at(changed(sweep, {change.key: change.value}), change.key))
    except UserError:
        return True


def as_changed(sweep: SweepConfig, overrides: Iterable[Override]) -> SweepConfig:
    """Return a sweep as it was given, with the changes that were made while it ran.

    A change of a key whose value in the file is another one by now is dropped: the file is newer.
    """
    held = {change.key: change.value for change in overrides if change.holds_over(value_at(sweep, change.key))}
    return changed(sweep, held, "the sweep with the changes that were made while it ran") if held else sweep


def require_allowed(before: SweepConfig, after: SweepConfig, begun: Collection[str]) -> None:
    """Check that a sweep that has begun may be changed so.

    Allowed are how much is done and on what machines, new arms, further choices and wider ranges. An arm without a
    trial may change altogether, or go.

    Args:
        before, after: the sweep without and with the change.
        begun: the arms that have trials.

    Raises:
        UserError: anything else would differ.
    """
    for name in begun:
        if name not in after.arms:
            raise UserError(f"arms.{name}: an arm that has begun cannot be removed; pause it")
    old, new = ({**_plain(sweep), "arms": _begun(sweep, begun)} for sweep in (before, after))
    for key in sorted(set(_leaves(old)) | set(_leaves(new))):
        if key.startswith((*LIVE, *NEXT)) or _is_space(key):
            continue
        found, wanted = _leaves(old).get(key), _leaves(new).get(key)
        if found != wanted:
            raise UserError(
                f"{key}: cannot be changed once a sweep has begun ({found!r} before, {wanted!r} now): its trials would "
                "not be comparable"
            )
    _require_wider("space.", before.space, after.space, before)
    for name in begun:
        _require_wider(f"arms.{name}.space.", before.arms[name].space, after.arms[name].space, before)


def needs_pause(before: SweepConfig, after: SweepConfig) -> bool:
    """Return whether a change takes hold only while nothing runs."""
    old, new = _leaves(_plain(before)), _leaves(_plain(after))
    return any(old.get(key) != new.get(key) and not key.startswith(LIVE) for key in old.keys() | new.keys())


def _plain(sweep: SweepConfig) -> Plain:
    return sweep.model_dump(mode="json", by_alias=True)


def _leaves(plain: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the leaves of nested plain values by dotted key; an empty section is a leaf."""
    found: dict[str, Any] = {}
    for key, value in plain.items():
        if isinstance(value, Mapping) and value:
            found |= _leaves(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def _begun(sweep: SweepConfig, begun: Collection[str]) -> Plain:
    return {name: arm for name, arm in _plain(sweep)["arms"].items() if name in begun}


def _is_space(key: str) -> bool:
    return key.startswith("space.") or key == "space" or (key.startswith("arms.") and ".space" in key)


def _require_wider(
    prefix: str, before: Mapping[str, SearchParameter], after: Mapping[str, SearchParameter], sweep: SweepConfig
) -> None:
    for key in before.keys() | after.keys():
        if before.get(key) == after.get(key):
            continue
        if key not in before or key not in after:
            what = "added to" if key not in before else "taken from"
            raise UserError(f"{prefix}{key}: cannot be {what} the space of a sweep that has begun")
        if sweep.search.sampler in _FIXED_SPACE:
            raise UserError(f"{prefix}{key}: sampler {sweep.search.sampler} cannot change its space")
        if not includes(after[key], before[key]):
            raise UserError(
                f"{prefix}{key}: expected all values of {shortened(before[key].text())}, and more; found "
                f"{shortened(after[key].text())}"
            )


def includes(wide: SearchParameter, narrow: SearchParameter) -> bool:
    """Return whether a search parameter has every value of another, of the same kind and under the same condition."""
    if wide.when != narrow.when or wide.step != narrow.step:
        return False
    if narrow.categorical is not None:
        return wide.categorical is not None and set(narrow.categorical) <= set(wide.categorical)
    for one, other in ((wide.uniform, narrow.uniform), (wide.log, narrow.log), (wide.integer, narrow.integer)):
        if (one is None) != (other is None):
            return False
        if one is not None and other is not None:
            aligned = narrow.step is None or (other[0] - one[0]) % narrow.step == 0
            return one[0] <= other[0] and other[1] <= one[1] and aligned
    return False
