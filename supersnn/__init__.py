"""The method: spiking students, artificial teachers, and the distillation loss between them.

The public names below are imported when they are first used (PEP 562): `import supersnn` imports neither torch nor
pydantic. Everything else is importable from its module, and may move between versions.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from supersnn.config import TrainConfig
    from supersnn.config import load as load_config
    from supersnn.data import training_data
    from supersnn.errors import UserError
    from supersnn.exported import load as load_export
    from supersnn.networks.build import build as build_student
    from supersnn.teacher_sources import teacher_source_for
    from supersnn.teachers import TeacherStore
    from supersnn.training import train

    __version__: str

__all__ = [
    "TeacherStore",
    "TrainConfig",
    "UserError",
    "__version__",
    "build_student",
    "load_config",
    "load_export",
    "teacher_source_for",
    "train",
    "training_data",
]

_LOCATIONS = {
    "TeacherStore": "supersnn.teachers:TeacherStore",
    "TrainConfig": "supersnn.config:TrainConfig",
    "UserError": "supersnn.errors:UserError",
    "build_student": "supersnn.networks.build:build",
    "load_config": "supersnn.config:load",
    "load_export": "supersnn.exported:load",
    "teacher_source_for": "supersnn.teacher_sources:teacher_source_for",
    "train": "supersnn.training:train",
    "training_data": "supersnn.data:training_data",
}
"""Each public name's module and attribute."""


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name == "__version__":
        from importlib.metadata import version

        return version("supersnn")
    if name not in _LOCATIONS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _LOCATIONS[name].partition(":")
    value = globals()[name] = getattr(import_module(module), attribute)
    return value


def __dir__() -> list[str]:
    """List the public names beside those that are imported already."""
    return sorted({*globals(), *__all__})
