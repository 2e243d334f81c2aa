"""Public names of a package that are imported when they are first used."""

from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any


def lazy_names(
    package: dict[str, Any], locations: Mapping[str, str], public: Iterable[str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return a package's `__getattr__` and `__dir__`.

    Args:
        package: its ``globals()``; a name that was imported is kept there.
        locations: module and attribute of each name, as ``"supersnn.data:training_data"``.
        public: its ``__all__``.
    """

    def get(name: str) -> Any:
        """Import a public name when it is first used."""
        if name not in locations:
            raise AttributeError(f"module {package['__name__']!r} has no attribute {name!r}")
        module, _, attribute = locations[name].partition(":")
        value = package[name] = getattr(import_module(module), attribute)
        return value

    def names() -> list[str]:
        """List the public names beside those that are imported already."""
        return sorted({*package, *public})

    return get, names
