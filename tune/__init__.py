"""The search: a sweep's arms as Optuna studies, trials on Ray, MLflow tracking, final runs and exports.

The public names below are imported when they are first used (PEP 562); other modules may move between versions.
"""

from typing import TYPE_CHECKING

from supersnn.lazy_names import lazy_names

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


__getattr__, __dir__ = lazy_names(globals(), _LOCATIONS, __all__)
