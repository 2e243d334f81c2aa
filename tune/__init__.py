"""The search: a sweep's arms as Optuna studies, trials on Ray, MLflow tracking, final runs and exports.

The public names below are imported when they are first used (PEP 562); other modules may move between versions.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tune.description.sweep import SweepConfig
    from tune.interface import Sweep, follow, load, run

__all__ = ["Sweep", "SweepConfig", "follow", "load", "run"]

_LOCATIONS = {
    "Sweep": "tune.interface:Sweep",
    "SweepConfig": "tune.description.sweep:SweepConfig",
    "follow": "tune.interface:follow",
    "load": "tune.interface:load",
    "run": "tune.interface:run",
}
"""Each public name's module and attribute."""


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _LOCATIONS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _LOCATIONS[name].partition(":")
    value = globals()[name] = getattr(import_module(module), attribute)
    return value


def __dir__() -> list[str]:
    """List the public names beside those that are imported already."""
    return sorted({*globals(), *__all__})
