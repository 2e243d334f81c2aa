"""The public Python interface: every name resolves, and importing the packages stays cheap."""

import importlib
import importlib.metadata
import pkgutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PACKAGES = ("supersnn", "tune", "analysis", "supersnn_cli")


@pytest.mark.parametrize("package", PACKAGES)
def test_public_names_resolve(package: str) -> None:
    module = importlib.import_module(package)
    names = getattr(module, "__all__", [])
    assert set(names) <= set(dir(module))
    for name in names:
        assert getattr(module, name) is not None, f"{package}.{name}"


@pytest.mark.parametrize("package", ["supersnn", "analysis", "tune"])
def test_public_names_are_located_and_hidden_by_no_module(package: str) -> None:
    """A submodule of the same name would replace the public object as soon as it is imported."""
    module = importlib.import_module(package)
    assert set(module._LOCATIONS) == {*module.__all__} - {"__version__"}
    submodules = {found.name for found in pkgutil.iter_modules(module.__path__)}
    assert not submodules & set(module.__all__)


def test_unknown_names_are_attribute_errors() -> None:
    for package in ("supersnn", "analysis", "tune"):
        with pytest.raises(AttributeError, match="no_such_name"):
            _ = importlib.import_module(package).no_such_name


def test_version_is_that_of_the_distribution() -> None:
    import supersnn

    assert supersnn.__version__ == importlib.metadata.version("supersnn")


def test_without_a_distribution_the_version_is_that_of_the_source_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    import supersnn
    from supersnn import version
    from tune.versions import code_version

    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    project = tomllib.loads((Path(supersnn.__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    assert supersnn.__version__ == project["project"]["version"]
    assert code_version().startswith(supersnn.__version__)
    assert version._of_tree(Path("/nowhere/pyproject.toml")) == version.UNKNOWN


def test_importing_the_packages_is_cheap() -> None:
    heavy = ("torch", "pydantic", "numpy", "pandas", "ray", "optuna", "mlflow", "plotly")
    code = f"import sys, supersnn, tune, analysis; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_are_marked_as_typed(package: str) -> None:
    file = importlib.import_module(package).__file__
    assert file is not None
    assert Path(file).with_name("py.typed").exists()
