"""Digests of configurations: the addresses of what is stored for them."""

import hashlib
import json
from typing import Any

from supersnn.config_model import ConfigModel
from supersnn.nested import merge, unflatten, value_at, without

EXCLUDE_DEFAULT_FROM_DIGEST = "excluded from digests while it has its default"
"""Annotation of keys that were added later: while they have their default, they do not change a digest."""
EXCLUDE_FROM_DIGEST = "excluded from digests"
"""Annotation of keys that no result depends on, such as where code is found."""


def digest(*parts: object) -> str:
    """Return 16 hexadecimal digits of the SHA-256 of the parts' canonical JSON; models count by their values.

    It is the address of stored teachers, teacher caches and checkpoints, so it must not change when a model changes:
    keys with `EXCLUDE_DEFAULT_FROM_DIGEST` are left out while they have their default, those with
    `EXCLUDE_FROM_DIGEST` always, and `MOVED_KEYS` count under their older names.
    """
    plain = [digested(part) if isinstance(part, ConfigModel) else part for part in parts]
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def digested(config: ConfigModel) -> dict[str, Any]:
    """Return the values of a model that its digest is computed from: without later keys that have their default."""
    values = config.model_dump(mode="json")
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        if EXCLUDE_FROM_DIGEST in field.metadata or (
            EXCLUDE_DEFAULT_FROM_DIGEST in field.metadata and value == field.default
        ):
            del values[name]
        elif isinstance(value, ConfigModel):
            values[name] = digested(value)
    for key, older in config.MOVED_KEYS.items():
        values = merge(without(values, key), unflatten({older: value_at(values, key)}))
    return values
