"""Nested mappings of plain values, and their leaves by dotted key, as ``loss.relation.weight``."""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from supersnn.errors import UserError

Scalar = str | int | float | bool | None


def flatten(config: BaseModel | Mapping[str, Any]) -> dict[str, Scalar]:
    """Return every leaf of a configuration (or of nested plain values) by dotted key, as ``loss.relation.weight``."""

    def leaves(data: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Scalar]]:
        for key, value in data.items():
            if isinstance(value, Mapping):
                yield from leaves(value, f"{prefix}{key}.")
            else:
                yield prefix + key, value

    return dict(leaves(config.model_dump(mode="json") if isinstance(config, BaseModel) else config, ""))


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return the nested mapping of dotted keys: the inverse of `flatten`."""
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        *parents, leaf = key.split(".")
        section = nested
        for parent in parents:
            section = section.setdefault(parent, {})
            if not isinstance(section, dict):
                raise UserError(f"{key}: {parent!r} is a value, not a section")
        section[leaf] = value
    return nested


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` updated with the values of `over`, section by section; neither argument is changed."""
    merged = dict(base)
    for key, value in over.items():
        nested = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if nested else value
    return merged


def rename_keys(data: Any, moved: Mapping[str, str]) -> Any:
    """Return unvalidated data with the older names of some dotted keys replaced; see `ConfigModel.MOVED_KEYS`.

    Raises:
        ValueError: a key is given under both names, with different values.
    """
    for key, older in moved.items():
        value = value_at(data, older)
        if value is ABSENT:
            continue
        current = value_at(data, key)
        if current not in (ABSENT, value):
            raise ValueError(f"{key} is {current!r} and its older name {older} is {value!r}: remove {older}")
        data = merge(without(data, older), unflatten({key: value}))
    return data


ABSENT = object()
"""Stands for a value that is not there."""


def value_at(data: Any, key: str) -> Any:
    """Return the value of a dotted key in nested data, `ABSENT` if there is none."""
    for part in key.split("."):
        if not isinstance(data, Mapping) or part not in data:
            return ABSENT
        data = data[part]
    return data


def without(data: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return a copy of nested data without a dotted key."""
    name, _, rest = key.partition(".")
    if not rest:
        return {other: value for other, value in data.items() if other != name}
    return {**data, name: without(data[name], rest)}
