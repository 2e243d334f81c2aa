"""The code of one's own that an export needs: copied into the export, or named; imported from it only when trusted.

Packages of folders are copied to `plugins/NAME`; installed distributions are named with their version. Whoever loads an
export decides whether code from it is imported: weights alone never need it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from supersnn import plugins
from supersnn.config import TrainConfig
from supersnn.errors import UserError
from supersnn.files import DamagedFile
from supersnn.parts import is_import_path

FOLDER = "plugins"


class UntrustedCode(UserError):
    """An export needs code from its folder, and was not trusted."""


@dataclass(frozen=True)
class Package:
    """A top-level package of an export's import paths, as its `metrics.json` has it.

    Attributes:
        name: of the package.
        sha256: of its sources, where they are in the export.
        distribution, version: of the installed distribution that has it, where they are not.
    """

    name: str
    sha256: str | None = None
    distribution: str | None = None
    version: str | None = None


@dataclass(frozen=True)
class Code:
    """The packages of a training, and the folders of those that are copied."""

    packages: tuple[Package, ...]
    folders: Mapping[str, Path] = field(default_factory=dict)

    @property
    def entries(self) -> tuple[str, ...]:
        """The `plugins` of the exported configuration, relative to the export."""
        return tuple(f"./{FOLDER}/{name}" for name in self.folders)

    def copy(self, export: Path) -> None:
        """Copy the packages into an export folder."""
        for name, folder in self.folders.items():
            plugins.copy(folder, export / FOLDER / name)


def of(config: TrainConfig) -> Code:
    """Return the code of a training's import paths, of which this process has all packages."""
    packages, folders = [], {}
    for name in dict.fromkeys(map(_package, config.import_paths())):
        folder = plugins.active().get(name)
        owner = None if folder is not None else plugins.distribution_of(name)
        if owner is not None:
            packages.append(Package(name, distribution=owner[0], version=owner[1]))
        elif (folder := folder or plugins.folder_of(name)) is not None:
            folders[name] = folder
            packages.append(Package(name, sha256=plugins.digest(folder)))
    return Code(tuple(packages), folders)


def require_trust(file: Path, config: TrainConfig, trust: bool) -> None:
    """Check that an export's configuration may be trained with the export's own code.

    Raises:
        UntrustedCode: the file is an export's, its plugins are in the export, and `trust` is false.
    """
    inside = [entry for entry in config.plugins if Path(entry).is_relative_to((file.parent / FOLDER).resolve())]
    if inside and (file.parent / "metrics.json").is_file() and not trust:
        raise UntrustedCode(f"{file}: needs code of the export's own; read {inside[0]}, then trust it: --trust")


def make_importable(export: Path, metrics: Mapping[str, Any], needed: Iterable[str], trust: bool) -> None:
    """Make the packages of some import paths importable: as installed here, else from an export's folder.

    Args:
        export: its folder, whose checksums have been verified.
        metrics: of the export.
        needed: the names that are about to be imported, import paths or not.
        trust: whether code from the export may be imported.

    Raises:
        UntrustedCode: a package is in the export alone.
        UserError: a distribution is not installed, or another version of a package is here.
        DamagedFile: the export does not say where a package is from.
    """
    known = {one["name"]: Package(**one) for one in metrics.get("plugins", [])}
    for path in filter(is_import_path, needed):
        name = _package(path)
        package = known.get(name)
        if package is None:
            raise DamagedFile(f"{export}: metrics.json does not say where the package of {path!r} is from")
        here = plugins.folder_of(name)
        if package.sha256 is None:
            if here is None:
                raise UserError(
                    f"{export}: {path!r} needs the distribution {package.distribution} {package.version}: "
                    f"pip install '{package.distribution}=={package.version}'"
                )
        elif here is None or plugins.digest(here) != package.sha256:
            if not trust:
                state = "not installed here" if here is None else f"another version here, {here}"
                raise UntrustedCode(
                    f"{export}: {path!r} is code of the export's own ({name!r} is {state}); read "
                    f"{export / FOLDER / name}, then trust it: --trust, or trust=True in Python"
                )
            plugins.activate([str((export / FOLDER / name).resolve())])


def _package(path: str) -> str:
    return path.partition(":")[0].partition(".")[0]
