"""What every configuration is made of: frozen sections that refuse unknown keys, read from YAML, flattened, digested.

A complaint is one line that names the file, the key, what was found and the nearest right one.
"""

import hashlib
import json
from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from supersnn.errors import UserError, nearest

Fraction = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]

Scalar = str | int | float | bool | None

EXCLUDE_DEFAULT_FROM_DIGEST = "its default leaves a digest as it is"
"""The mark of a key that came after the first stores: with its default, a section has the digest of one without it."""


class ConfigModel(BaseModel):
    """A part of a configuration: frozen, with no key but those it names, and no NaN or infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


S = TypeVar("S", bound=ConfigModel)


class _OneKeyOnce(yaml.SafeLoader):
    """PyYAML's safe loader, except that a key given twice in one mapping is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} twice", node.start_mark)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file.

    Raises:
        UserError: the file is missing, is not YAML, holds a key twice, or is not a mapping.
    """
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_OneKeyOnce)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise UserError(f"{path}: expected a mapping of keys, found {type(data).__name__}")
    return data


def to_yaml(config: ConfigModel) -> str:
    """Return the configuration as YAML, complete, in the order of its fields."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def parse(model: type[S], data: Mapping[str, Any], origin: str) -> S:
    """Return `data` as a `model`; `origin` (a file's name, usually) stands first in every complaint.

    Raises:
        UserError: one line that names the key, its value, what was expected, and the nearest right key.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise UserError("; ".join(_complaints(model, error, origin))) from error


def _complaints(model: type[ConfigModel], error: ValidationError, origin: str) -> Iterator[str]:
    for fault in error.errors():
        key = ".".join(str(part) for part in fault["loc"])
        if fault["type"] == "extra_forbidden":
            known = _fields_at(model, fault["loc"][:-1])
            parent = "".join(f"{part}." for part in fault["loc"][:-1])
            hint = nearest(str(fault["loc"][-1]), known).replace("mean '", f"mean '{parent}")
            expected = "" if hint else f"; known here: {', '.join(known)}"
            yield f"{origin}: {key}: unknown key{hint}{expected}"
        elif fault["type"] == "missing":
            yield f"{origin}: {key}: this key is needed"
        elif fault["type"] == "value_error":
            yield f"{origin}: {key + ': ' if key else ''}{fault['msg'].removeprefix('Value error, ')}"
        else:
            yield f"{origin}: {key}: {fault['msg'][0].lower()}{fault['msg'][1:]}, found {fault['input']!r}"


def _fields_at(model: type[ConfigModel], where: tuple[int | str, ...]) -> list[str]:
    here: Any = model
    for part in where:
        field = here.model_fields.get(str(part)) if isinstance(here, type) and issubclass(here, ConfigModel) else None
        if field is None:
            return _fields_of_values(here, part)
        here = field.annotation
    return list(here.model_fields) if isinstance(here, type) and issubclass(here, ConfigModel) else []


def _fields_of_values(annotation: Any, _key: object) -> list[str]:
    """Fields of the sections that a mapping such as `dict[str, ConfigModel]` holds."""
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
        here = nested
        for parent in parents:
            here = here.setdefault(parent, {})
            if not isinstance(here, dict):
                raise UserError(f"{key}: {parent!r} is a value, not a section")
        here[leaf] = value
    return nested


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with the values of `over` laid upon it, section by section; neither is changed."""
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def with_values(config: S, values: Mapping[str, Any], origin: str = "values") -> S:
    """Return the configuration with the values of some dotted keys replaced, validated anew."""
    return parse(type(config), merge(config.model_dump(mode="json"), unflatten(values)), origin)


def digest(*parts: object) -> str:
    """Return 16 hexadecimal digits of the SHA-256 of the parts' canonical JSON; sections count by their values.

    Stored teachers, banks and checkpoints are found by it, so it must stay what it was when a section gets a new key:
    keys marked `EXCLUDE_DEFAULT_FROM_DIGEST` are left out while they have their default.
    """
    plain = [_marked(part) if isinstance(part, ConfigModel) else part for part in parts]
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _marked(section: ConfigModel) -> dict[str, Any]:
    """The values of a section that its digest is of."""
    values = section.model_dump(mode="json")
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, ConfigModel):
            values[name] = _marked(value)
        elif EXCLUDE_DEFAULT_FROM_DIGEST in field.metadata and value == field.default:
            del values[name]
    return values
