"""Composition of a sweep's description from several files: the values of later files win."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from supersnn.errors import Origin, UserError
from supersnn.nested import rename_keys
from supersnn.plain_yaml import read_yaml

Paths = Path | Sequence[Path]


def compose(paths: Paths, moved: Mapping[str, str]) -> tuple[dict[str, Any], Origin]:
    """Return the data of one file or several, and what errors name as its origin.

    Sections are merged key by key. Everything else is replaced by the later file's value, and so is a search
    parameter: a range of one kind does not become one of two.

    Args:
        paths: of YAML files, the earlier ones first.
        moved: the current names of keys with their older ones; see `rename_keys`.

    Raises:
        UserError: a file cannot be read, is no mapping, or is given twice.
    """
    files = [paths] if isinstance(paths, Path) else list(paths)
    read: dict[str, dict[str, Any]] = {}
    for path in files:
        if str(path) in read:
            raise UserError(f"{path}: given twice; give each file once")
        try:
            read[str(path)] = rename_keys(read_yaml(path), moved)
        except ValueError as error:
            raise UserError(f"{path}: {error}") from error
    data: dict[str, Any] = {}
    for values in read.values():
        data = _merged(data, values, ())
    return data, Origin(" + ".join(read), {file: set(_keys(values)) for file, values in read.items()})


def _merged(base: Mapping[str, Any], over: Mapping[str, Any], place: tuple[str, ...]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        before = merged.get(key)
        sections = isinstance(value, Mapping) and isinstance(before, Mapping) and place[-1:] != ("space",)
        merged[key] = _merged(before or {}, value, (*place, key)) if sections else value
    return merged


def _keys(data: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the dotted keys of nested data, those of sections and of the items of lists too."""
    for key, value in data.items():
        yield prefix + key
        items = dict(enumerate(value)) if isinstance(value, list) else value
        if isinstance(items, Mapping):
            yield from _keys({str(name): item for name, item in items.items()}, f"{prefix}{key}.")
