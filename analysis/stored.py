"""A sweep's small files as the analysis uses them: what is damaged is left out, and reported in one line each."""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from supersnn.errors import UserError
from supersnn.plain_yaml import read_yaml

LATEST = 253_402_300_799.0
"""The last second of the year 9999, the last that has a date."""
SECTIONS = ("dataset", "student", "search", "verify", "resources")
COMPLETE = ("name", "arms", "space", *SECTIONS)
"""The keys that a driver always writes to a sweep's `config.yaml`."""


class StoredResult(BaseModel):
    """A final run in `verified.json`: its seed, and its measurements under the registry's columns."""

    model_config = ConfigDict(extra="allow", strict=True)
    seed: int


class StoredArm(BaseModel):
    """An arm in `verified.json`."""

    model_config = ConfigDict(strict=True)
    trial: int
    results: list[StoredResult] = []


class Opening(BaseModel):
    """A line of the test ledger."""

    model_config = ConfigDict(extra="allow", strict=True)
    time: Annotated[float, Field(ge=0, le=LATEST)]
    dataset: str
    purpose: str
    count: Annotated[int, Field(gt=0, lt=2**53)]
    weights: str | None = None


_ARMS = TypeAdapter(dict[str, StoredArm])


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


def _scale(value: Any) -> bool:
    return isinstance(value, Mapping)


_KEYS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "name": (_text, "text"),
    "dataset.name": (_text, "text"),
    "student.architecture": (_text, "text"),
    "verify.seeds": (_whole, "a whole number"),
    "verify.train_on": (_text, "text"),
    "resources.cpus": (_number, "a number"),
    "resources.gpus": (lambda value: value == "auto" or _number(value), "a number or auto"),
}
"""The keys of one value that the analysis uses."""
_MAPPINGS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "arms": (lambda value: value is None or isinstance(value, Mapping), "a mapping"),
    "space": (_scale, "a mapping"),
    "search.constraints": (_number, "a number"),
}
"""The mappings that the analysis uses, and what their values are."""


def sweep_file(path: Path) -> tuple[dict[str, Any], list[str]]:
    """Return a sweep's `config.yaml`, without the values that make no sense, and its faults."""
    if not path.exists():
        return {}, [f"{path.name}: missing"]
    try:
        config = read_yaml(path)
        whole = path.read_bytes().endswith(b"\n")
    except UserError as error:
        return {}, [str(error).replace(str(path), path.name)]
    except RecursionError:
        return {}, [f"{path.name}: not valid YAML: nested too deeply"]
    config, faults = checked(config, path.name)
    if lacking := [key for key in COMPLETE if key not in config and not any(f": {key}:" in text for text in faults)]:
        faults.append(f"{path.name}: cut off, or not written by a driver: {', '.join(lacking)}: missing")
    elif not whole:
        faults.append(f"{path.name}: cut off: its last line is not complete")
    return config, faults


def checked(config: Mapping[Any, Any], origin: str) -> tuple[dict[str, Any], list[str]]:
    """Return a sweep's configuration without values of a wrong type, and a line for each of them.

    Args:
        config: the mapping in a sweep file.
        origin: the file's name, with which the lines begin.
    """
    kept: dict[str, Any] = {str(key): value for key, value in config.items()}
    faults: list[str] = []

    def drop(holder: dict[str, Any], key: str, path: str, expected: str) -> None:
        found = holder.pop(key)
        faults.append(f"{origin}: {path}: expected {expected}, found {type(found).__name__}: left out")

    for section in SECTIONS:
        if kept.get(section) is None:
            kept.pop(section, None)
        elif isinstance(kept[section], Mapping):
            kept[section] = {str(key): value for key, value in kept[section].items()}
        else:
            drop(kept, section, section, "a mapping")
    for path, (fits, expected) in _KEYS.items():
        holder, key = _place(kept, path)
        if holder.get(key) is not None and not fits(holder[key]):
            drop(holder, key, path, expected)
    for path, (fits, expected) in _MAPPINGS.items():
        holder, key = _place(kept, path)
        if holder.get(key) is None:
            holder.pop(key, None)
        elif not isinstance(holder[key], Mapping):
            drop(holder, key, path, "a mapping")
        else:
            holder[key] = {str(name): value for name, value in holder[key].items()}
            for name in [name for name, value in holder[key].items() if not fits(value)]:
                drop(holder[key], name, f"{path}.{name}", expected)
    return kept, faults


def _place(config: dict[str, Any], path: str) -> tuple[dict[str, Any], str]:
    section, _, key = path.rpartition(".")
    return (config.get(section, {}) if section else config), key


def verified(path: Path) -> tuple[dict[str, StoredArm], list[str]]:
    """Return the arms of `verified.json`, and its faults; a missing file is empty."""
    try:
        data = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except OSError as error:
        return {}, [f"{path.name}: cannot be read: {error.strerror}"]
    except (ValueError, RecursionError) as error:
        return {}, [f"{path.name}: not valid JSON: {error}"]
    if not isinstance(data, dict):
        return {}, [f"{path.name}: expected a mapping, found {type(data).__name__}"]
    try:
        return _ARMS.validate_python(data.get("arms", {})), []
    except ValidationError as error:
        return {}, [f"{path.name}: arms{text}" for text in _messages(error)]


def ledger(path: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the openings of the test images, and the ledger's faults; a missing file is empty."""
    try:
        lines = path.read_bytes().split(b"\n") if path.exists() else [b""]
    except OSError as error:
        return [], [f"{path.name}: cannot be read: {error.strerror}"]
    rows: list[dict[str, Any]] = []
    faults = [f"{path.name}: torn last line"] if lines.pop() else []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(Opening.model_validate_json(line).model_dump(exclude_unset=True))
        except ValidationError as error:
            faults.extend(f"{path.name}, line {number}{text}" for text in list(_messages(error))[:1])
    return rows, faults


def _messages(error: ValidationError) -> Iterator[str]:
    for fault in error.errors(include_url=False, include_input=False):
        yield "".join(f".{part}" for part in fault["loc"]) + f": {fault['msg']}"
