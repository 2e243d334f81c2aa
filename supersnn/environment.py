"""Environment variables in paths and addresses: `${NAME}` stands for the variable's value."""

import os
import re
from collections.abc import Mapping
from typing import Any

from supersnn.errors import UserError, nearest, shortened

_REFERENCE = re.compile(r"\$\{([^}]*)\}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def expanded(text: str, key: str) -> str:
    """Return a text with each `${NAME}` replaced by the value of the environment variable; anything else stays.

    Args:
        text: a path or an address.
        key: named in errors, which show the text as it was written, never a value.

    Raises:
        UserError: a variable is not set, or `${…}` holds no name of one.
    """

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if not _NAME.fullmatch(name):
            raise UserError(f"{key}: expected ${{NAME}} with the name of an environment variable, found {match[0]!r}")
        if name not in os.environ:
            raise UserError(
                f"{key}: {shortened(match[0])}: the environment variable {shortened(name)} is not set"
                f"{nearest(name, os.environ)}"
            )
        return os.environ[name]

    return _REFERENCE.sub(value, text)


def with_expanded(data: Any, key: str) -> Any:
    """Return unvalidated data with every text below a dotted key expanded; data without the key as it is.

    Raises:
        UserError: see `expanded`.
    """
    return _below(data, key.split("."), key)


def _below(data: Any, path: list[str], key: str) -> Any:
    if not path:
        return _everywhere(data, key)
    first, *rest = path
    return {**data, first: _below(data[first], rest, key)} if isinstance(data, Mapping) and first in data else data


def _everywhere(data: Any, key: str) -> Any:
    if isinstance(data, str):
        return expanded(data, key)
    if isinstance(data, Mapping):
        return {name: _everywhere(value, f"{key}.{name}") for name, value in data.items()}
    return (
        [_everywhere(value, f"{key}.{place}") for place, value in enumerate(data)] if isinstance(data, list) else data
    )
