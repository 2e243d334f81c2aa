"""Plugins: packages of your own that a configuration names under `plugins`, and how processes find and compare them.

An entry is the path of a package's folder, as `./mypkg`, or the name of an installed distribution. A folder's package
is importable under its name once it is activated, and nothing else beside it: the folder's parent is not put on
`sys.path`. Processes that are started later inherit what is active through the environment. This module imports nothing
that trains.
"""

import hashlib
import importlib.abc
import importlib.machinery
import importlib.metadata
import importlib.util
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from supersnn.errors import UserError, nearest, shortened

VARIABLE = "_SUPERSNN_PLUGINS"
"""The environment variable with the active folders and the digests of their sources, for child processes."""
_HASHED = "sha256:"
_OURS = ("supersnn", "supersnn_cli", "tune", "analysis")


@dataclass(frozen=True)
class Plugin:
    """One entry of `plugins`.

    Attributes:
        entry: as it was given.
        packages: the top-level names that it makes importable.
        folder: of the package; None for a distribution.
        version: of the distribution; None for a folder.
    """

    entry: str
    packages: tuple[str, ...]
    folder: Path | None = None
    version: str | None = None


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the packages of active folders, by their top-level names alone."""

    def __init__(self) -> None:
        self.folders: dict[str, Path] = {}

    def find_spec(
        self,
        fullname: str,
        _path: Sequence[str] | None = None,
        _target: ModuleType | None = None,
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the spec of an active package."""
        folder = self.folders.get(fullname)
        return None if folder is None else importlib.machinery.PathFinder.find_spec(fullname, [str(folder.parent)])


_FINDER = _Finder()


def is_folder(entry: str) -> bool:
    """Return whether an entry is a path, and not the name of a distribution."""
    return os.sep in entry or entry.startswith((".", "~"))


def resolve(entries: Iterable[str]) -> tuple[Plugin, ...]:
    """Return the plugins of some entries.

    Raises:
        UserError: a folder is no package, has the name of another module, or a distribution is not installed.
    """
    found = tuple(_of_folder(entry) if is_folder(entry) else _of_distribution(entry) for entry in entries)
    names = [name for plugin in found for name in plugin.packages]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"plugins: {name!r} is given twice; give each package once")
    return found


def absolute(entries: Iterable[str], file: Path | None = None) -> tuple[str, ...]:
    """Return the entries with absolute paths, which hold in every working directory.

    A relative path is one from the working directory; where there is no such folder, from that of the file it is in.
    """

    def found(entry: str) -> str:
        path = Path(entry).expanduser()
        if file is not None and not path.exists() and (file.parent / path).exists():
            path = file.parent / path
        return str(path.resolve())

    return tuple(found(entry) if is_folder(entry) else entry for entry in entries)


def activate(entries: Iterable[str]) -> tuple[Plugin, ...]:
    """Make the packages of folders importable, in this process and in those that it starts.

    Raises:
        UserError: see `resolve`; or a package of this name is imported already from elsewhere.
    """
    found = resolve(entries)
    for plugin in found:
        if plugin.folder is not None:
            _activate(plugin.folder)
    return found


def inherit() -> None:
    """Activate what the process that started this one had active.

    Raises:
        UserError: a package's sources have changed meanwhile.
    """
    for item in os.environ.get(VARIABLE, "").split(os.pathsep):
        expected, _, text = item.partition("=")
        folder = Path(text)
        if text and folder.name not in _FINDER.folders:
            if not folder.is_dir() or digest(folder) != expected:
                raise UserError(
                    f"plugins: {folder} has changed since this was started: start the command again, which continues"
                )
            _register(folder)


def active() -> Mapping[str, Path]:
    """Return the active packages' folders by name."""
    return dict(_FINDER.folders)


def _activate(folder: Path) -> None:
    name, loaded = folder.name, sys.modules.get(folder.name)
    if loaded is not None and (place := _folder_of(loaded)) != folder:
        raise UserError(
            f"plugins: {name!r} is imported already from {place or 'elsewhere'}, not from {folder}: start a new process"
        )
    _register(folder)
    os.environ[VARIABLE] = os.pathsep.join(f"{digest(path)}={path}" for path in _FINDER.folders.values())


def _register(folder: Path) -> None:
    _FINDER.folders[folder.name] = folder
    importlib.invalidate_caches()
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)


def _folder_of(module: ModuleType) -> Path | None:
    file = getattr(module, "__file__", None)
    return Path(file).resolve().parent if file else None


def _of_folder(entry: str) -> Plugin:
    folder = Path(entry).expanduser().resolve()
    if not folder.is_dir():
        raise UserError(f"plugins: {entry}: no such folder")
    if not (folder / "__init__.py").is_file():
        raise UserError(f"plugins: {entry}: no package: it has no __init__.py; expected the folder of a package")
    name = folder.name
    if not name.isidentifier() or name in sys.stdlib_module_names or name in _OURS:
        kind = "is the name of another module" if name.isidentifier() else "is no name of a module"
        raise UserError(f"plugins: {entry}: {name!r} {kind}; rename the folder")
    return Plugin(entry, (name,), folder=folder)


def _of_distribution(entry: str) -> Plugin:
    try:
        version = importlib.metadata.version(entry)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        hint = " (a folder is given as a path: './" + entry + "')" if Path(entry).is_dir() else ""
        known = (str(found.metadata["Name"]) for found in importlib.metadata.distributions())
        raise UserError(
            f"plugins: no distribution {shortened(repr(entry))} is installed{hint or nearest(entry, known)}"
        ) from None
    return Plugin(entry, packages_of(entry), version=version)


def packages_of(distribution: str) -> tuple[str, ...]:
    """Return the top-level packages of an installed distribution."""
    wanted = _normal(distribution)
    names = importlib.metadata.packages_distributions()
    return tuple(sorted(name for name, owners in names.items() if wanted in map(_normal, owners)))


def distribution_of(package: str) -> tuple[str, str] | None:
    """Return name and version of the installed distribution that has a top-level package; None without one."""
    owners = importlib.metadata.packages_distributions().get(package)
    return (owners[0], importlib.metadata.version(owners[0])) if owners else None


def _normal(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


def folder_of(package: str) -> Path | None:
    """Return the folder of a top-level package as this process would import it; None where it finds none."""
    inherit()
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return None
    locations = list(spec.submodule_search_locations or ()) if spec is not None else []
    return Path(locations[0]).resolve() if locations else None


def digest(folder: Path) -> str:
    """Return the SHA-256 of a package's source files, in 64 hexadecimal digits."""
    sha = hashlib.sha256()
    for path in sorted(_files(folder)):
        if path.suffix == ".py":
            sha.update(f"{path.relative_to(folder).as_posix()}\0{path.stat().st_size}\0".encode())
            sha.update(path.read_bytes())
    return sha.hexdigest()


def digests(packages: Iterable[str]) -> dict[str, str]:
    """Return the digest of each package as this process would import it; empty where it cannot be found."""
    folders = {name: folder_of(name) for name in packages}
    return {name: "" if folder is None else digest(folder) for name, folder in folders.items()}


def copy(folder: Path, to: Path) -> None:
    """Copy a package without caches and hidden files."""
    for path in _files(folder):
        target = to / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


def _files(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name != "__pycache__" and not name.startswith(".")]
        yield from (Path(parent, name) for name in names if not name.startswith(".") and not name.endswith(".pyc"))


def identities(packages: Iterable[str]) -> dict[str, str]:
    """Return what identifies each top-level package: ``sha256:DIGEST`` of an active folder, else ``version X``."""
    found = {}
    for name in packages:
        owner = None if name in _FINDER.folders else distribution_of(name)
        found[name] = f"{_HASHED}{digests([name])[name]}" if owner is None else f"version {owner[1]}"
    return found


def difference(expected: Mapping[str, str]) -> str | None:
    """Return how this process's packages differ from those that `identities` has returned elsewhere; None if not."""
    for name, identity in expected.items():
        folder = folder_of(name)
        if folder is None:
            return f"plugin {name!r} cannot be imported: {_remedy(identity)}"
        if identity.startswith(_HASHED):
            if digest(folder) != identity.removeprefix(_HASHED):
                return f"the sources of plugin {name!r} differ from the driver's: were they changed, or installed?"
        elif (owner := distribution_of(name)) is None or f"version {owner[1]}" != identity:
            found = "no distribution" if owner is None else f"version {owner[1]}"
            return f"plugin {name!r}: {found}, the driver has {identity}; install the same version"
    return None


def _remedy(identity: str) -> str:
    return "name it under plugins" if identity.startswith(_HASHED) else f"install {identity}"


def shipped(entries: Iterable[str]) -> list[Path]:
    """Return the folders of the packages that are sent to a cluster's nodes.

    A distribution with compiled code has to be installed on each node.
    """
    found = []
    for plugin in resolve(entries):
        for name in plugin.packages:
            folder = plugin.folder or folder_of(name)
            if folder is not None and not any(path.suffix in (".so", ".pyd") for path in _files(folder)):
                found.append(folder)
    return found
