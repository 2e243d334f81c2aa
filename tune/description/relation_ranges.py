"""The default range of the relational term's weight, which depends on the kinds of relation that are compared.

Where the range is `default`, or a weight has none, it is chosen by `loss.relation.kind` and `loss.relation.scale`, so
that the term's gradient at the last map is between a tenth and some ten times the label loss's.
`benchmarks.relation_scale` measures these gradients: per unit of weight they are 0.005 to 0.008 times the label's for
`gram`, 0.07 to 0.6 for the other pairs and for angles, 0.3 to 1.2 for `rkd`, and 1.2 to 11 for all at the relative
scale. Where a search compares several kinds at the raw scale, the range spans those of all; at the relative scale one
serves.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from typing import Any

from supersnn.config import RelationLossConfig
from tune.description.space import SearchParameter

WEIGHT, KIND, SCALE = (f"loss.relation.{key}" for key in ("weight", "kind", "scale"))
RAW: dict[str, tuple[float, float]] = {
    "cosine": (0.3, 30.0),
    "centred_cosine": (0.3, 30.0),
    "distance": (0.3, 30.0),
    "angle": (0.3, 30.0),
    "rkd": (0.1, 10.0),
    "gram": (30.0, 3000.0),
}
"""Ranges at the raw scale, by kind; of a kind of your own, that of `cosine`."""
RELATIVE = (0.03, 3.0)
"""The range at the relative scale."""


def weight_range(kinds: Iterable[object], scales: Iterable[object]) -> SearchParameter:
    """Return the range of the weight for some kinds of relation and scales."""
    kinds, ranges = list(kinds), []
    for scale in scales:
        ranges += [RELATIVE] if scale == "relative" else [RAW.get(str(kind), RAW["cosine"]) for kind in kinds]
    lows, highs = zip(*ranges, strict=True)
    return SearchParameter(log=(min(lows), max(highs)))


def outside(low: float, high: float, kinds: Iterable[object], scales: Iterable[object]) -> Iterator[str]:
    """Yield a text for each kind and scale whose default range of the weight has no value in common with low … high.

    The term's gradient is less than about a tenth of the label loss's below that range, more than some ten times above
    it. Nothing is known of kinds of one's own at the raw scale.
    """
    for kind, scale in product(kinds, scales):
        usual = RELATIVE if scale == "relative" else RAW.get(str(kind))
        if usual is None or (low <= usual[1] and high >= usual[0]):
            continue
        of = "the relative scale" if scale == "relative" else f"kind {kind} at the raw scale"
        side, does = ("below", "be negligible beside") if high < usual[0] else ("above", "dominate")
        given = f"{low:g}" if low == high else f"{low:g} to {high:g}"
        default = f"the default range of {of}, {usual[0]:g} to {usual[1]:g}"
        yield f"{given} is {side} {default}: the term would {does} the label loss"


def with_weight_ranges(data: Any) -> Any:
    """Return the unvalidated data of a sweep with each `default` range of the weight replaced by that of its kinds.

    An arm with kinds or scales of its own gets a range of its own where the sweep's space has `default`.
    """
    if not isinstance(data, Mapping) or not isinstance(data.get("space", {}), Mapping):
        return data
    section = data
    for name in ("loss", "relation"):
        section = section.get(name, {}) if isinstance(section, Mapping) else {}
    own = section if isinstance(section, Mapping) else {}
    fields = RelationLossConfig.model_fields
    base = {KIND: [own.get("kind", fields["kind"].default)], SCALE: [own.get("scale", fields["scale"].default)]}
    space = dict(data.get("space") or {})
    shared = space.get(WEIGHT) == "default"
    base = {key: _values(space, {}, key) or values for key, values in base.items()}
    if shared:
        space[WEIGHT] = weight_range(base[KIND], base[SCALE])
    arms = data.get("arms")
    if isinstance(arms, Mapping):
        arms = {name: _arm(arm, base, shared) for name, arm in arms.items()}
    found = {**data, "space": space} if "space" in data else dict(data)
    return {**found, "arms": arms} if "arms" in data else found


def _arm(arm: Any, base: Mapping[str, list[object]], shared: bool) -> Any:
    """Return an arm with its own range, where that is `default` or the sweep's default is of other kinds."""
    if not isinstance(arm, Mapping):
        return arm
    space, fixed = arm.get("space") or {}, arm.get("set") or {}
    if not isinstance(space, Mapping) or not isinstance(fixed, Mapping):
        return arm
    values = {key: _values(space, fixed, key) or base[key] for key in (KIND, SCALE)}
    if space.get(WEIGHT) == "default" or (shared and WEIGHT not in {*space, *fixed} and values != base):
        return {**arm, "space": {**space, WEIGHT: weight_range(values[KIND], values[SCALE])}}
    return arm


def _values(space: Mapping[str, Any], fixed: Mapping[str, Any], key: str) -> list[object]:
    """Return the values that a key can have by an arm's or a sweep's own words; none if they say nothing."""
    if key in fixed:
        return [fixed[key]]
    parameter = space.get(key)
    choices = (
        parameter.get("categorical") if isinstance(parameter, Mapping) else getattr(parameter, "categorical", None)
    )
    return list(choices) if isinstance(choices, list | tuple) else []
