"""Base class of all configuration models: frozen, strict about keys, read from YAML, flattened, hashed into digests.

A validation error is one line that names the file, the key, the value found, and the nearest known key.
"""

import hashlib
import json
from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from supersnn.errors import UserError, nearest

Fraction = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]

Scalar = str | int | float | bool | None

EXCLUDE_DEFAULT_FROM_DIGEST = "excluded from digests while it has its default"
"""Annotation of keys that were added later: while they have their default, they do not change a digest."""


class ConfigModel(BaseModel):
    """Base class of configuration models: frozen, without unknown keys, NaN and infinity.

    `MOVED_KEYS` maps dotted keys to their older names, which digests still use, so that stored files stay addressable.
    """

    MOVED_KEYS: ClassVar[Mapping[str, str]] = {}

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


S = TypeVar("S", bound=ConfigModel)


class _UniqueKeyLoader(yaml.SafeLoader):
    """PyYAML's safe loader, except that a repeated key in a mapping is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file.

    Raises:
        UserError: the file is missing, is not YAML, repeats a key, or is not a mapping.
    """
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeyLoader)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise UserError(f"{path}: expected a mapping of keys, found {type(data).__name__}")
    return data


def to_yaml(config: ConfigModel) -> str:
    """Return the configuration as YAML, with all keys, in the order of its fields."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def parse(model: type[S], data: Mapping[str, Any], origin: str) -> S:
    """Return `data` as a `model`; error messages begin with `origin`, usually a file name.

    Raises:
        UserError: one line that names the key, its value, what was expected, and the nearest known key.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise UserError("; ".join(_messages(model, error, origin))) from error


def _messages(model: type[ConfigModel], error: ValidationError, origin: str) -> Iterator[str]:
    for detail in error.errors():
        key = ".".join(str(part) for part in detail["loc"])
        if detail["type"] == "extra_forbidden":
            known = _fields_at(model, detail["loc"][:-1])
            parent = "".join(f"{part}." for part in detail["loc"][:-1])
            hint = nearest(str(detail["loc"][-1]), known).replace("mean '", f"mean '{parent}")
            expected = "" if hint else f"; known keys: {', '.join(known)}"
            yield f"{origin}: {key}: unknown key{hint}{expected}"
        elif detail["type"] == "missing":
            yield f"{origin}: {key}: this key is required"
        elif detail["type"] == "value_error":
            yield f"{origin}: {key + ': ' if key else ''}{detail['msg'].removeprefix('Value error, ')}"
        else:
            yield f"{origin}: {key}: {detail['msg'][0].lower()}{detail['msg'][1:]}, found {detail['input']!r}"


def _fields_at(model: type[ConfigModel], path: tuple[int | str, ...]) -> list[str]:
    """Return the keys of the model at a path within another."""
    annotation: Any = model
    for part in path:
        fields = _fields(annotation)
        if str(part) not in fields:
            return _fields_of_values(annotation)
        annotation = fields[str(part)].annotation
    return list(_fields(annotation))


def _fields(annotation: Any) -> dict[str, FieldInfo]:
    is_model = isinstance(annotation, type) and issubclass(annotation, ConfigModel)
    return annotation.model_fields if is_model else {}


def _fields_of_values(annotation: Any) -> list[str]:
    """Return the keys of the models in a mapping such as `dict[str, ConfigModel]`."""
    for argument in getattr(annotation, "__args__", ()):
        if isinstance(argument, type) and issubclass(argument, ConfigModel):
            return list(argument.model_fields)
    return []


def flatten(config: ConfigModel | Mapping[str, Any]) -> dict[str, Scalar]:
    """Return every leaf of a configuration (or of nested plain values) by dotted key, as ``loss.relation.weight``."""

    def leaves(data: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Scalar]]:
        for key, value in data.items():
            if isinstance(value, Mapping):
                yield from leaves(value, f"{prefix}{key}.")
            else:
                yield prefix + key, value

    return dict(leaves(config.model_dump(mode="json") if isinstance(config, ConfigModel) else config, ""))


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


def with_values(config: S, values: Mapping[str, Any], origin: str = "values") -> S:
    """Return the configuration with the values of some dotted keys replaced, validated again."""
    current = {current_key(type(config), key): value for key, value in values.items()}
    return parse(type(config), merge(config.model_dump(mode="json"), unflatten(current)), origin)


def current_key(model: type[ConfigModel], key: str) -> str:
    """Return today's name of a dotted key that may be an older one."""
    return {older: name for name, older in model.MOVED_KEYS.items()}.get(key, key)


def rename_keys(data: Any, moved: Mapping[str, str]) -> Any:
    """Return unvalidated data with the older names of some dotted keys replaced; see `ConfigModel.MOVED_KEYS`.

    Raises:
        ValueError: a key is given under both names, with different values.
    """
    for key, older in moved.items():
        value = _value_at(data, older)
        if value is _ABSENT:
            continue
        current = _value_at(data, key)
        if current not in (_ABSENT, value):
            raise ValueError(f"{key} is {current!r} and its older name {older} is {value!r}: remove {older}")
        data = merge(_without(data, older), unflatten({key: value}))
    return data


_ABSENT = object()


def _value_at(data: Any, key: str) -> Any:
    """Return the value of a dotted key in nested data, `_ABSENT` if there is none."""
    for part in key.split("."):
        if not isinstance(data, Mapping) or part not in data:
            return _ABSENT
        data = data[part]
    return data


def _without(data: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return a copy of nested data without a dotted key."""
    name, _, rest = key.partition(".")
    if not rest:
        return {other: value for other, value in data.items() if other != name}
    return {**data, name: _without(data[name], rest)}


def digest(*parts: object) -> str:
    """Return 16 hexadecimal digits of the SHA-256 of the parts' canonical JSON; models count by their values.

    It is the address of stored teachers, teacher caches and checkpoints, so it must not change when a model changes:
    keys with `EXCLUDE_DEFAULT_FROM_DIGEST` are left out while they have their default, and `MOVED_KEYS` count under
    their older names.
    """
    plain = [_digested(part) if isinstance(part, ConfigModel) else part for part in parts]
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _digested(config: ConfigModel) -> dict[str, Any]:
    """Return the values of a model that its digest is computed from."""
    values = config.model_dump(mode="json")
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        if isinstance(value, ConfigModel):
            values[name] = _digested(value)
        elif EXCLUDE_DEFAULT_FROM_DIGEST in field.metadata and value == field.default:
            del values[name]
    for key, older in config.MOVED_KEYS.items():
        values = merge(_without(values, key), unflatten({older: _value_at(values, key)}))
    return values
