"""The version of this package, installed or run from its source tree."""

import importlib.metadata
import tomllib
from pathlib import Path

UNKNOWN = "unknown"


def package_version() -> str:
    """Return the version of the installed distribution; without one that of the source tree, or `UNKNOWN`."""
    try:
        return importlib.metadata.version("supersnn")
    except importlib.metadata.PackageNotFoundError:
        return _of_tree(Path(__file__).resolve().parent.parent / "pyproject.toml")


def _of_tree(path: Path) -> str:
    try:
        project = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
    except (OSError, ValueError, KeyError):
        return UNKNOWN
    return str(project["version"]) if project.get("name") == "supersnn" else UNKNOWN
