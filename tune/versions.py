"""What made a result: the version of the code and of the libraries."""

import importlib.metadata
import platform
import subprocess
from pathlib import Path

LIBRARIES = ("torch", "torchvision", "ray", "optuna", "mlflow", "pandas", "numpy")


def code_version() -> str:
    """Return the package's version, with the commit and a `+changed` where it runs from a checkout."""
    version = importlib.metadata.version("supersnn")
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
    """Return the versions of Python, the platform and the libraries that results depend on."""
    found = {name: importlib.metadata.version(name) for name in LIBRARIES}
    return {"python": platform.python_version(), "platform": platform.platform(), **found}


def _git(root: Path, *arguments: str) -> str:
    result = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True, timeout=5)
    return result.stdout.strip()
