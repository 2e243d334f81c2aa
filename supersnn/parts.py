"""Parts from outside: a name of the form `MODULE:ATTRIBUTE` stands for an object of a package of your own.

A registry is a dict of this project's own parts; `part` looks a name up in it, and imports what is an import path.
Nothing is imported before it is used: a configuration with such names can be read where their packages are missing.
"""

import importlib
import inspect
import re
import traceback
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from supersnn import plugins
from supersnn.errors import UserError, described, nearest, shortened

_NAME = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*"
IMPORT_PATH = re.compile(rf"{_NAME}:{_NAME}")
_PREFIXES = ("torchvision", "timm", "folder", "csv")
"""What may stand before a colon without being a module: libraries of networks, and kinds of data sets."""

T = TypeVar("T")


def is_import_path(name: str) -> bool:
    """Return whether a name is an import path, well formed or not, and no name of this project's own."""
    prefix, colon, _ = name.partition(":")
    return bool(colon) and prefix not in _PREFIXES


def one_of(*names: str) -> Callable[[str], str]:
    """Return a pydantic validator for a name that is one of these or an import path."""

    def check(value: str) -> str:
        if value not in names and not is_import_path(value):
            known = ", ".join(map(repr, names))
            raise ValueError(
                f"expected {known} or an import path MODULE:ATTRIBUTE, found {shortened(repr(value))}"
                f"{nearest(value, names)}"
            )
        return require_form(value) if is_import_path(value) else value

    return check


def require_form(name: str) -> str:
    """Return an import path.

    Raises:
        ValueError: it is not of the form `MODULE:ATTRIBUTE`.
    """
    if not IMPORT_PATH.fullmatch(name):
        raise ValueError(f"expected an import path MODULE:ATTRIBUTE, as mypkg.nets:Mine, found {shortened(repr(name))}")
    return name


def part(registry: Mapping[str, T], name: str) -> T:
    """Return the part of this name: one of the registry, or the object that an import path names."""
    return registry[name] if name in registry else load(name)


def load(path: str) -> Any:
    """Return the object that an import path names.

    Raises:
        UserError: the module cannot be imported, or has no such attribute; one line.
    """
    if not IMPORT_PATH.fullmatch(path):
        raise UserError(f"{shortened(repr(path))}: expected an import path MODULE:ATTRIBUTE, as mypkg.nets:Mine")
    module_name, _, attributes = path.partition(":")
    plugins.inherit()
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise UserError(f"{path!r} cannot be imported: {described(error)}{raised_at(error, [path])}") from error
        hint = nearest(error.name, [*_PREFIXES[:2], *plugins.active()])
        raise UserError(
            f"{path!r}: there is no module {error.name!r}{hint}; install its package, or name its folder under plugins"
        ) from error
    except (Exception, SystemExit) as error:  # whatever the user's module raises
        raise UserError(f"{path!r} cannot be imported: {described(error)}{raised_at(error, [path])}") from error
    for attribute in attributes.split("."):
        if not hasattr(found, attribute):
            raise UserError(f"{path!r}: no attribute {attribute!r} in it{nearest(attribute, _public(found))}")
        found = getattr(found, attribute)
    return found


def function(path: str) -> Callable[..., Any]:
    """Return the function or class that an import path names.

    Raises:
        UserError: it cannot be imported, or cannot be called.
    """
    found = load(path)
    if not callable(found):
        raise UserError(f"{path!r}: expected a function or a class, found {shortened(repr(found))}")
    return found


def check_arguments(
    path: str,
    called: Callable[..., Any],
    offered: Iterable[str],
    arguments: Iterable[str],
    key: str,
    positional: int = 0,
) -> None:
    """Check that a part can be called with what is offered to it and its own arguments, without calling it.

    Args:
        path: its import path, for errors.
        called: the part.
        offered: the names that it is given where it has parameters of these names.
        arguments: the names of its own arguments.
        key: of the own arguments in the configuration, for errors.
        positional: how many positional arguments it is called with.

    Raises:
        UserError: one line that names the argument, and the nearest parameter.
    """
    parameters = _parameters(called)
    if parameters is None:
        return
    kinds = inspect.Parameter
    takes_any = any(one.kind is kinds.VAR_KEYWORD for one in parameters.values())
    variadic = any(one.kind is kinds.VAR_POSITIONAL for one in parameters.values())
    ordered = [
        name for name, one in parameters.items() if one.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)
    ]
    if len(ordered) < positional and not variadic:
        raise UserError(f"{path!r}: expected a function of {positional} arguments, found one of {len(ordered)}")
    named = [
        name
        for name, one in parameters.items()
        if one.kind in (kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY) and name not in ordered[:positional]
    ]
    for name in arguments:
        if name not in named and not takes_any:
            known = f"; it takes {', '.join(named)}" if named else "; it takes none"
            raise UserError(f"{key}.{name}: {path!r} has no argument of this name{nearest(name, named) or known}")
    given = {*offered, *arguments}
    for name in named:
        if parameters[name].default is kinds.empty and name not in given:
            raise UserError(f"{key}.{name}: {path!r} requires this argument; give it under {key}")


def call(
    path: str, called: Callable[..., Any], offered: Mapping[str, Any], arguments: Mapping[str, Any], key: str
) -> Any:
    """Call a part with its own arguments, and with those of `offered` that it has parameters for.

    Raises:
        UserError: the arguments do not fit (`check_arguments`), or it raises.
    """
    check_arguments(path, called, offered, arguments, key)
    parameters = _parameters(called) or {}
    given = {name: value for name, value in offered.items() if name in parameters}
    with raised_by(path):
        return called(**{**given, **arguments})


def accepts(path: str, argument: str) -> bool:
    """Return whether a part can be called with an argument of this name.

    Raises:
        UserError: it cannot be imported.
    """
    parameters = _parameters(function(path))
    if parameters is None:
        return True
    return argument in parameters or any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values())


class raised_by:
    """A block in which a part's code runs: what it raises becomes a `UserError` that names the part."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        """Begin the block."""

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        """Convert an error."""
        if isinstance(error, Exception) and not isinstance(error, UserError):
            raise UserError(f"{self._path!r} raises {described(error)}{raised_at(error, [self._path])}") from error


def raised_at(error: BaseException, paths: Iterable[str]) -> str:
    """Return `` (FILE:LINE)``: where an error left the packages of import paths, empty where it is not from them.

    That is the innermost of their lines in its traceback; a library that they called may have raised it further inside.
    """
    packages = {path.partition(":")[0].partition(".")[0] for path in paths}
    place = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        if str(frame.f_globals.get("__name__", "")).partition(".")[0] in packages:
            place = f" ({frame.f_code.co_filename}:{line})"
    return place


def _parameters(called: Callable[..., Any]) -> Mapping[str, inspect.Parameter] | None:
    """Return the parameters of a function or class, None where they are not known."""
    try:
        return inspect.signature(called).parameters
    except (TypeError, ValueError):
        return None


def _public(module: object) -> list[str]:
    return [name for name in dir(module) if not name.startswith("_")]
