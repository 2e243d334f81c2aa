"""What a part of one's own must do, checked one by one: `check_part` returns findings, `assert_part` raises them."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from supersnn import parts
from supersnn.errors import UserError, described, shortened
from supersnn.testing import functions, networks


@dataclass(frozen=True)
class Finding:
    """One requirement, and what was found: `ok` is whether it is met."""

    what: str
    ok: bool
    found: str


CHECKS: dict[str, Callable[[str, Mapping[str, Any]], Iterator[tuple[str, str]]]] = {
    "student": networks.student,
    "teacher": networks.teacher,
    "neuron": networks.neuron,
    "dataset": functions.dataset,
    "surrogate": functions.surrogate,
    "relation": functions.relation,
    "loss": functions.loss,
    "metric": functions.metric,
    "optimizer": functions.optimizer,
}
"""The checks by kind of part: each yields what it has found to be right, and raises `UserError` at the first fault."""

REQUIREMENT = "first fault"


def check_part(part: str | object, kind: str | None = None, **arguments: Any) -> list[Finding]:
    """Check a part of one's own; after the first requirement that is not met the others are left out.

    Args:
        part: its import path, or the object, which must be importable under its name.
        kind: of `CHECKS`; by default what the part looks like.
        arguments: of its own.

    Raises:
        UserError: it cannot be imported, or its kind is not clear.
    """
    path = path_of(part)
    return findings_of(CHECKS[kind or kind_of(path)](path, arguments))


def findings_of(met: Iterator[tuple[str, str]]) -> list[Finding]:
    """Return the findings of a check: the requirements that it yields as met, then the fault that it raises, if any."""
    findings = []
    try:
        for what, found in met:
            findings.append(Finding(what, True, found))
    except UserError as error:
        findings.append(Finding(REQUIREMENT, False, str(error)))
    except Exception as error:  # whatever the part raises
        findings.append(Finding(REQUIREMENT, False, f"raises {described(error)}"))
    return findings


def assert_part(part: str | object, kind: str | None = None, **arguments: Any) -> None:
    """Check a part of one's own; for tests.

    Raises:
        AssertionError: a requirement is not met; the text names it.
    """
    faults = [finding.found for finding in check_part(part, kind, **arguments) if not finding.ok]
    if faults:
        raise AssertionError("; ".join(faults))


def path_of(part: str | object) -> str:
    """Return the import path of an object.

    Raises:
        UserError: the object has no name, or another object has it.
    """
    if isinstance(part, str):
        return part
    module, name = getattr(part, "__module__", None), getattr(part, "__qualname__", None)
    if not module or not name or "<" in name:
        raise UserError(
            f"{shortened(repr(part))}: expected an import path, or an object that can be imported by its name"
        )
    return f"{module}:{name}"


def kind_of(path: str) -> str:
    """Return what a part looks like.

    Raises:
        UserError: it looks like nothing, or like several kinds.
    """
    found = parts.load(path)
    if isinstance(found, type):
        if issubclass(found, torch.optim.Optimizer):
            return "optimizer"
        if issubclass(found, nn.Module):
            return "neuron" if getattr(found, "spiking", False) else "student"
        if hasattr(found, "read"):
            return "dataset"
    names = [name.lstrip("_") for name in inspect.signature(found).parameters] if callable(found) else []
    for kind, first in _FIRST.items():
        if tuple(names[: len(first)]) == first:
            return kind
    if {"layers", "shape", "classes", "num_classes"} & set(names) or _returns(found, nn.Module):
        return "student"
    if not names or "part" in names:
        return "dataset"
    raise UserError(f"{path!r}: its kind is not clear; expected --as with one of {', '.join(CHECKS)}")


_FIRST = {
    "surrogate": ("x", "width"),
    "relation": ("vectors",),
    "loss": ("student", "teacher", "labels"),
    "metric": ("network", "images", "data"),
}
"""The first parameters of functions by their kind."""


def _returns(found: object, kind: type) -> bool:
    hint = getattr(found, "__annotations__", {}).get("return")
    return isinstance(hint, type) and issubclass(hint, kind) and not issubclass(hint, Tensor)
