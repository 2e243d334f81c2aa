"""YAML files with plain values only: read with errors of one line, and written."""

import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from supersnn.errors import UserError, shortened

_DEEPEST, _MOST_VALUES, _MOST_BYTES = 20, 100_000, 2_000_000
"""How deep the data of a file may be nested, how many values it may have (aliases included), and how many bytes."""
_LONGEST = 4096
"""How many characters a text may have; as many as a path."""

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


def dump_yaml(values: Mapping[str, Any]) -> str:
    """Return plain values as YAML, in their order; `parse_yaml` reads the same values again."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False)
