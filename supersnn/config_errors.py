"""What is wrong with the data of a configuration: for each mistake its file, its key, and what was expected."""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from supersnn.errors import named, nearest, shortened


def mistakes(
    model: type[BaseModel], data: Mapping[str, Any], error: ValidationError, origin: str
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


def _place(model: type[BaseModel], data: Any, detail: ErrorDetails) -> tuple[int | str, ...]:
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


def _fields_at(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """Return the keys of the model at a path within another."""
    annotation: Any = model
    for part in path:
        fields = _fields(annotation)
        if str(part) not in fields:
            return _fields_of_values(annotation)
        annotation = fields[str(part)].annotation
    return list(_fields(annotation)) or _fields_of_values(annotation)


def _fields(annotation: Any) -> dict[str, FieldInfo]:
    is_model = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return {field.alias or name: field for name, field in annotation.model_fields.items()} if is_model else {}


def _fields_of_values(annotation: Any) -> list[str]:
    """Return the keys of the models in a mapping such as `dict[str, BaseModel]`, which may be optional."""
    for argument in getattr(annotation, "__args__", ()):
        if known := list(_fields(argument)) or _fields_of_values(argument):
            return known
    return []
