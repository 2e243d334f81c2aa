"""Time spans in the sweep file: a number of seconds, or a text such as ``10 min`` or ``1.5 h``."""

import re
from typing import Annotated

from pydantic import BeforeValidator

from supersnn.config_model import Positive
from supersnn.errors import shortened

_UNITS = {"": 1.0, "s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds_of(value: object) -> object:
    """Return the seconds of a text such as ``10 min``; anything but a text as it is.

    Raises:
        ValueError: the text is no time span.
    """
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([a-z]*)\s*", value)
    if match is None or match[2] not in _UNITS:
        raise ValueError(f"expected seconds, or a time such as '10 min' or '1.5 h', found {shortened(repr(value))}")
    return float(match[1]) * _UNITS[match[2]]


TimeSpan = Annotated[Positive, BeforeValidator(seconds_of)]
"""A time span, in seconds once it is read."""
