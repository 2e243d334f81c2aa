"""What a result depends on: the versions of the code and of the libraries, and a digest of the sources."""

import hashlib
import importlib.metadata
import importlib.util
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path

from supersnn.version import package_version

PACKAGES = ("supersnn", "supersnn_cli", "tune", "analysis")
"""The packages of this project; a cluster's nodes get their sources from the driver."""

LIBRARIES = ("torch", "torchvision", "ray", "optuna", "mlflow", "pandas", "numpy")
"""The libraries whose versions results depend on."""

NOT_INSTALLED = "not installed"


def code_version(own: Mapping[str, str] | None = None) -> str:
    """Return the package's version, with the commit and a `+changed` where it runs from a checkout.

    Args:
        own: what identifies the user's packages (`supersnn.plugins.identities`); the version names them, too.
    """
    version = _with_commit(package_version())
    short = (f"{name} {identity.removeprefix('sha256:')[:12]}" for name, identity in (own or {}).items())
    return ", ".join([version, *short])


def _with_commit(version: str) -> str:
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return version
    try:
        commit = _git(root, "rev-parse", "--short=12", "HEAD")
        changed = "+changed" if _git(root, "status", "--porcelain", "--untracked-files=no") else ""
    except (OSError, subprocess.SubprocessError):
        return version
    return f"{version}-{commit}{changed}"


def versions() -> dict[str, str]:
    """Return the versions of Python, the platform and the libraries."""
    return {"python": platform.python_version(), "platform": platform.platform(), **library_versions()}


def library_versions() -> dict[str, str]:
    """Return the versions of `LIBRARIES`; that of a missing one is ``not installed``."""
    return {name: _version(name) for name in LIBRARIES}


def source_digest() -> str:
    """Return the SHA-256 of the source files of `PACKAGES` as this process would import them."""
    digest = hashlib.sha256()
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        root = Path(next(iter(spec.submodule_search_locations or ()))) if spec else Path()
        for path in sorted(root.rglob("*.py")) if spec else ():
            digest.update(f"{package}/{path.relative_to(root)}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _version(library: str) -> str:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return NOT_INSTALLED


def _git(root: Path, *arguments: str) -> str:
    result = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True, timeout=5)
    return result.stdout.strip()
