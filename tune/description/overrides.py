"""Overrides of a sweep file: `--set key=value` replaces the value at a dotted key, a mapping as a whole."""

from collections.abc import Iterable, Mapping
from typing import Any

from supersnn.errors import UserError, shortened
from supersnn.plain_yaml import parse_yaml

_BY_KEY = ("space", "set")
"""The sections whose own keys are dotted."""


def parse_override(text: str, option: str = "--set") -> tuple[str, Any]:
    """Return the dotted key and the YAML value of `key=value`, which an option of the command line was given.

    Raises:
        UserError: it is something else.
    """
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UserError(f"{option} {shortened(text)}: expected key=value")
    try:
        return key, parse_yaml(value)
    except ValueError as error:
        raise UserError(f"{option} {shortened(text)}: {error}") from error


def with_override(data: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    """Return unvalidated data with the value at a dotted key replaced; sections on the way are made.

    The keys of `space` and of an arm's `space` and `set` are dotted themselves: ``space.optimizer.lr`` is the search
    parameter ``optimizer.lr``, ``space.optimizer.lr.log`` its range where the file has that parameter.

    Raises:
        UserError: a section on the way is a value.
    """
    return _replaced(data, path_of(data, key), value, key)


def path_of(data: Mapping[str, Any], key: str) -> list[str]:
    """Return the keys of nested mappings that a dotted key stands for in unvalidated data; see `with_override`."""
    first, _, rest = key.partition(".")
    if not rest:
        return [first]
    if first in _BY_KEY:
        return [first, *_parameter(data.get(first), rest)]
    inside = data.get(first)
    names = inside.keys() if first == "arms" and isinstance(inside, Mapping) else ()
    name = _longest_prefix(rest, names)
    if name is not None:
        section = inside[name] if isinstance(inside, Mapping) and isinstance(inside[name], Mapping) else {}
        return [first, name, *path_of(section, rest[len(name) + 1 :])] if len(rest) > len(name) else [first, name]
    return [first, *path_of(inside if isinstance(inside, Mapping) else {}, rest)]


def _parameter(section: Any, key: str) -> list[str]:
    """Return the dotted key of a search parameter, and what follows it where the file has that parameter."""
    known = _longest_prefix(key, section.keys() if isinstance(section, Mapping) else ())
    return [key] if known is None or known == key else [known, key[len(known) + 1 :]]


def _longest_prefix(key: str, names: Iterable[Any]) -> str | None:
    """Return the longest of some names that a dotted key is or begins with."""
    fitting = (str(name) for name in names if key == str(name) or key.startswith(f"{name}."))
    return max(fitting, key=len, default=None)


def _replaced(data: Any, path: list[str], value: Any, key: str) -> dict[str, Any]:
    if data is not None and not isinstance(data, Mapping):
        raise UserError(f"--set {shortened(key)}: {path[0]!r} is inside a value, not a section")
    first, *rest = path
    inside = (data or {}).get(first)
    return {**(data or {}), first: _replaced(inside, rest, value, key) if rest else value}
