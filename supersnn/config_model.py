"""Base class of all configuration models: frozen, strict about keys, read from YAML, flattened, hashed into digests.

A validation error is one line that names the file, the key, the value found, and the nearest known key.
"""

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from supersnn.errors import UserError, named, nearest, shortened


def _no_truth_value(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError(f"expected a number, found {str(value).lower()} (YAML reads yes, no, on and off as that)")
    return value


Integer = Annotated[int, BeforeValidator(_no_truth_value)]
Number = Annotated[float, BeforeValidator(_no_truth_value)]
Fraction = Annotated[Number, Field(gt=0, lt=1)]
Positive = Annotated[Number, Field(gt=0)]
Weight = Annotated[Number, Field(ge=0)]
Count = Annotated[Integer, Field(ge=1)]
Name = Annotated[str, Field(min_length=1, max_length=100)]

Scalar = str | int | float | bool | None


class ArgumentMapping(dict[str, Any]):
    """The arguments of a part, hashable as all values of a frozen model are."""

    def __hash__(self) -> int:  # type: ignore[override]
        """Return a hash of the values."""
        return hash(json.dumps(self, sort_keys=True))


def _as_arguments(values: dict[str, Any]) -> ArgumentMapping:
    for name in values:
        if not name.isidentifier():
            raise ValueError(f"expected the name of an argument, found {shortened(repr(name))}")
    return ArgumentMapping(values)


Arguments = Annotated[dict[str, Scalar | tuple[Scalar, ...]], AfterValidator(_as_arguments)]
"""The arguments of a part of your own: names with plain values, or lists of them."""
NO_ARGUMENTS = ArgumentMapping()

_DEEPEST, _MOST_VALUES, _MOST_BYTES = 20, 100_000, 2_000_000
"""How deep the data of a file may be nested, how many values it may have (aliases included), and how many bytes."""
_LONGEST = 4096
"""How many characters a text may have; as many as a path."""
_MESSAGES, _MESSAGES_LENGTH = 3, 350
"""How many mistakes an error lists, and how many characters of them, before it only counts the others."""

EXCLUDE_DEFAULT_FROM_DIGEST = "excluded from digests while it has its default"
"""Annotation of keys that were added later: while they have their default, they do not change a digest."""
EXCLUDE_FROM_DIGEST = "excluded from digests"
"""Annotation of keys that no result depends on, such as where code is found."""


class ConfigModel(BaseModel):
    """Base class of configuration models: frozen, without unknown keys, NaN and infinity.

    `MOVED_KEYS` maps dotted keys to their older names, which digests still use, so that stored files stay addressable.
    """

    MOVED_KEYS: ClassVar[Mapping[str, str]] = {}

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


S = TypeVar("S", bound=ConfigModel)


_TAG = "tag:yaml.org,2002:"
_TAGS = {_TAG + name for name in ("bool", "float", "int", "map", "merge", "null", "seq", "str")}
_FLOAT = re.compile(
    r"""[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?$
    |[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+$
    |[-+]?\.(?:inf|Inf|INF)$
    |\.(?:nan|NaN|NAN)$""",
    re.VERBOSE,
)


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the floats of YAML 1.2 (`1e-2`), without dates, and without repeated keys."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._flattened = set[int]()

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Return the value of a node of a plain type."""
        if node.tag not in _TAGS:
            raise _fault(f"tag {node.tag!r} is not supported", node)
        return super().construct_object(node, deep)

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Insert the mappings under `<<`: the node's own keys override theirs, and earlier mappings later ones.

        PyYAML's own method loses what a mapping overrides when that mapping is itself inserted into another.

        Raises:
            ConstructorError: a key is given twice.
        """
        if id(node) in self._flattened:
            return
        self._flattened.add(id(node))
        own, inherited, keys = [], [], set[str]()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in keys:
                    raise _fault(f"key {key.value!r} is given twice", key)
                keys.add(key.value)
            if key.tag != f"{_TAG}merge":
                own.append((key, value))
                continue
            for source in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                if not isinstance(source, yaml.MappingNode):
                    raise _fault("expected a mapping, or a list of them, under <<", source)
                self.flatten_mapping(source)
                inherited += source.value
        node.value = []
        for key, value in inherited:
            if not isinstance(key, yaml.ScalarNode) or key.value not in keys:
                node.value.append((key, value))
                keys.add(str(key.value))
        node.value += own


def _fault(problem: str, node: yaml.Node) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


class _Dumper(yaml.SafeDumper):
    """PyYAML's safe dumper; it quotes text that `_Loader` would read as a number."""


for _yaml, _others in ((_Loader, ("float", "timestamp")), (_Dumper, ("float",))):
    _yaml.yaml_implicit_resolvers = {
        first: [(tag, form) for tag, form in forms if tag.removeprefix(_TAG) not in _others]
        for first, forms in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    _yaml.add_implicit_resolver(f"{_TAG}float", _FLOAT, list("-+0123456789."))


def parse_yaml(text: str) -> Any:
    """Return the plain values of a YAML text: mappings with keys of text, lists, text, numbers, truth values, null.

    Numbers as `1e-2` are numbers, as in YAML 1.2, and dates are text.

    Raises:
        ValueError: the text is not YAML, repeats a key, or has anything else; one line.
    """
    try:
        data = yaml.load(text, Loader=_Loader)
    except RecursionError:
        raise ValueError(f"not valid: nested too deeply; expected at most {_DEEPEST} levels") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
        raise ValueError(f"not valid YAML: {where}{shortened(str(error.problem or error.context), 200)}") from None
    except (yaml.YAMLError, ValueError, TypeError, LookupError, OverflowError) as error:
        raise ValueError(f"not valid YAML: {shortened(str(error), 200)}") from None
    _require_plain(data)
    return data


def _require_plain(data: Any) -> None:
    """Refuse data that no configuration needs, and that would fail somewhere later, and cycles.

    Raises:
        ValueError: with the dotted key.
    """
    waiting: list[tuple[str, Any, int]] = [("", data, 0)]
    seen = 0
    while waiting:
        name, value, depth = waiting.pop()
        seen += 1
        if seen > _MOST_VALUES:
            raise ValueError(f"too many values; expected at most {_MOST_VALUES:,}, aliases included")
        if depth > _DEEPEST:
            raise ValueError(f"not valid: nested too deeply; expected at most {_DEEPEST} levels")
        children: list[tuple[str, Any]] = []
        if isinstance(value, dict):
            for key in value:
                if not isinstance(key, str):
                    where = f"{name}: " if name else ""
                    raise ValueError(f"{where}key {key!r} is {_kind(key)}; expected text: put it in quotes")
                _require_printable(name, key)
            children = [(f"{name}.{key}".removeprefix("."), child) for key, child in value.items()]
        elif isinstance(value, list):
            children = [(f"{name}.{position}", child) for position, child in enumerate(value)]
        elif isinstance(value, str):
            _require_printable(name, value)
        elif isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise ValueError(f"{shortened(name)}: the number has more than 64 bits")
        waiting += [(key, child, depth + 1) for key, child in reversed(children)]


def _require_printable(name: str, text: str) -> None:
    if len(text) > _LONGEST:
        raise ValueError(f"{shortened(name)}: {shortened(text)!r} has more than {_LONGEST:,} characters")
    for character in text:
        if unicodedata.category(character) in ("Cc", "Cs"):
            where = f"{shortened(name)}: " if name else ""
            raise ValueError(f"{where}{shortened(text)!r} has the control character {character!a}")


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "a truth value"
    return "a number" if isinstance(value, int | float) else "null" if value is None else "not text"


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file.

    Raises:
        UserError: the file is missing, is not YAML, repeats a key, or is not a mapping.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise UserError(f"{path}: not a configuration: larger than {_MOST_BYTES:,} bytes")
        data = parse_yaml(content.decode("utf-8-sig"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not valid YAML: not UTF-8 text: {error.reason} at byte {error.start}") from error
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error
    if not isinstance(data, dict):
        raise UserError(f"{path}: expected a mapping of keys, found {type(data).__name__}")
    return data


def to_yaml(config: ConfigModel) -> str:
    """Return the configuration as YAML, with all keys, in the order of its fields."""
    return yaml.dump(config.model_dump(mode="json"), Dumper=_Dumper, sort_keys=False)


def parse(model: type[S], data: Mapping[str, Any], origin: str) -> S:
    """Return `data` as a `model`; error messages begin with `origin`, usually a file name.

    Raises:
        UserError: one line that names the key, its value, what was expected, and the nearest known key.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        messages = list(_messages(model, data, error, origin))
        first, _ = messages[0]
        shown = [": ".join(messages[0])]
        for file, text in messages[1:_MESSAGES]:
            message = text if file == first else f"{file}: {text}"
            if len("; ".join([*shown, message])) <= _MESSAGES_LENGTH:
                shown.append(message)
        others = f"; and {len(messages) - len(shown)} more" if len(messages) > len(shown) else ""
        raise UserError(f"{'; '.join(shown)}{others}") from None


def _messages(
    model: type[ConfigModel], data: Mapping[str, Any], error: ValidationError, origin: str
) -> Iterator[tuple[str, str]]:
    """Yield each mistake in a model's data: the file that has it, and a text that begins with its key."""
    by_place: dict[tuple[int | str, ...], list[ErrorDetails]] = {}
    for detail in error.errors(include_url=False):
        by_place.setdefault(_place(model, data, detail), []).append(detail)
    for place, details in by_place.items():
        detail, found = details[0], shortened(repr(details[0]["input"]))
        key = shortened(".".join(map(str, place)), 200)
        file = named(origin, ".".join(map(str, place)))
        where = f"{key}: " if key else ""
        if detail["type"] == "extra_forbidden":
            known = _fields_at(model, place[:-1])
            parent = "".join(f"{part}." for part in place[:-1])
            hint = nearest(str(place[-1]), known).replace("mean '", f"mean '{shortened(parent, 200)}")
            expected = "" if hint else f"; known keys: {', '.join(known)}"
            yield file, f"{where}unknown key{hint}{expected}"
        elif detail["type"] == "missing":
            yield file, f"{where}this key is required"
        elif detail["type"] == "value_error":
            yield file, f"{where}{shortened(detail['msg'].removeprefix('Value error, '), 300)}"
        elif detail["type"] in ("model_type", "dict_type"):
            yield file, f"{where}expected a section with keys, found {found}"
        elif detail["type"] == "string_type" and len(details) > 1:
            yield file, f"{where}expected text, a number, true, false or null, found {found}"
        else:
            yield file, f"{where}{detail['msg'][0].lower()}{detail['msg'][1:]}, found {found}"


def _place(model: type[ConfigModel], data: Any, detail: ErrorDetails) -> tuple[int | str, ...]:
    """Return the keys that lead to a mistake in the data; pydantic also names the members of unions."""
    place: list[int | str] = []
    annotation: Any = model
    for position, part in enumerate(detail["loc"], start=1):
        field = _fields(annotation).get(str(part))
        annotation = field.annotation if field is not None else None
        if isinstance(data, Mapping) and part in data:
            data = data[str(part)]
        elif isinstance(data, list | tuple) and isinstance(part, int) and part < len(data):
            data = data[part]
        elif field is not None or (detail["type"] == "missing" and position == len(detail["loc"])):
            data = None
        else:
            continue
        place.append(part)
    return tuple(place)


def _fields_at(model: type[ConfigModel], path: tuple[int | str, ...]) -> list[str]:
    """Return the keys of the model at a path within another."""
    annotation: Any = model
    for part in path:
        fields = _fields(annotation)
        if str(part) not in fields:
            return _fields_of_values(annotation)
        annotation = fields[str(part)].annotation
    return list(_fields(annotation)) or _fields_of_values(annotation)


def _fields(annotation: Any) -> dict[str, FieldInfo]:
    is_model = isinstance(annotation, type) and issubclass(annotation, ConfigModel)
    return {field.alias or name: field for name, field in annotation.model_fields.items()} if is_model else {}


def _fields_of_values(annotation: Any) -> list[str]:
    """Return the keys of the models in a mapping such as `dict[str, ConfigModel]`, which may be optional."""
    for argument in getattr(annotation, "__args__", ()):
        if known := list(_fields(argument)) or _fields_of_values(argument):
            return known
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


def digested(config: ConfigModel) -> dict[str, Any]:
    """Return the values of a model that its digest is computed from: without later keys that have their default."""
    return _digested(config)


def digest(*parts: object) -> str:
    """Return 16 hexadecimal digits of the SHA-256 of the parts' canonical JSON; models count by their values.

    It is the address of stored teachers, teacher caches and checkpoints, so it must not change when a model changes:
    keys with `EXCLUDE_DEFAULT_FROM_DIGEST` are left out while they have their default, those with
    `EXCLUDE_FROM_DIGEST` always, and `MOVED_KEYS` count under their older names.
    """
    plain = [_digested(part) if isinstance(part, ConfigModel) else part for part in parts]
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _digested(config: ConfigModel) -> dict[str, Any]:
    """Return the values of a model that its digest is computed from."""
    values = config.model_dump(mode="json")
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        if EXCLUDE_FROM_DIGEST in field.metadata or (
            EXCLUDE_DEFAULT_FROM_DIGEST in field.metadata and value == field.default
        ):
            del values[name]
        elif isinstance(value, ConfigModel):
            values[name] = _digested(value)
    for key, older in config.MOVED_KEYS.items():
        values = merge(_without(values, key), unflatten({older: _value_at(values, key)}))
    return values
