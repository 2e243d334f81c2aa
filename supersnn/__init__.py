"""The method: spiking students, artificial teachers, and the distillation loss between them.

The public names below are imported when they are first used (PEP 562): `import supersnn` imports neither torch nor
pydantic. Everything else is importable from its module, and may move between versions.
"""

from typing import TYPE_CHECKING, Any

from supersnn.lazy_names import lazy_names

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


_imported, __dir__ = lazy_names(globals(), _LOCATIONS, __all__)


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name == "__version__":
        from supersnn.version import package_version

        return package_version()
    return _imported(name)
