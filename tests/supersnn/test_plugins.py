import subprocess
import sys
from pathlib import Path

import pytest

from supersnn import plugins
from supersnn.errors import UserError
from tests.support.plugins import package

LOADS = "from supersnn import parts; print(parts.load('{path}').__name__)"


def child(path: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", LOADS.format(path=path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("./nowhere", "no such folder"),
        (".", "no __init__.py"),
        ("no-such-distribution", "no distribution 'no-such-distribution' is installed"),
        ("./json", "is the name of another module"),
        ("./tune", "is the name of another module"),
        ("./my-pkg", "is no name of a module"),
    ],
)
def test_wrong_entries_are_one_line(entry: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("json", "tune", "my-pkg"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=words):
        plugins.resolve([entry])


def test_a_folder_without_a_slash_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mypkg").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"a folder is given as a path: './mypkg'"):
        plugins.resolve(["mypkg"])


def test_a_distribution_is_named_with_its_packages() -> None:
    (found,) = plugins.resolve(["PyYAML"])
    assert "yaml" in found.packages
    assert found.folder is None
    assert found.version


def test_processes_that_are_started_later_find_the_package_and_nothing_beside_it(tmp_path: Path) -> None:
    module = package(tmp_path)
    (tmp_path / "beside").mkdir()
    (tmp_path / "beside" / "__init__.py").touch()
    assert child(f"{module}:tiny").stdout.strip() == "tiny"
    assert "no module 'beside'" in child("beside:x").stderr


def test_sources_that_change_meanwhile_are_told(tmp_path: Path) -> None:
    module = package(tmp_path)
    name = module.partition(".")[0]
    (tmp_path / name / "it.py").write_text("def tiny(): ...\n", encoding="utf-8")
    assert f"{name} has changed since this was started" in child(f"{module}:tiny").stderr


def test_two_packages_of_one_name_are_refused(tmp_path: Path) -> None:
    module = package(tmp_path / "one")
    name = module.partition(".")[0]
    __import__(module)
    (tmp_path / "two" / name).mkdir(parents=True)
    (tmp_path / "two" / name / "__init__.py").touch()
    with pytest.raises(UserError, match=r"is imported already from .*: start a new process"):
        plugins.activate([str(tmp_path / "two" / name)])
    with pytest.raises(UserError, match="is given twice"):
        plugins.resolve([str(tmp_path / "one" / name), str(tmp_path / "two" / name)])


def test_the_digest_is_that_of_the_sources_alone(tmp_path: Path) -> None:
    module = package(tmp_path)
    folder = tmp_path / module.partition(".")[0]
    before = plugins.digest(folder)
    __import__(module)
    (folder / "notes.txt").write_text("x", encoding="utf-8")
    assert plugins.digest(folder) == before
    (folder / "more.py").write_text("", encoding="utf-8")
    assert plugins.digest(folder) != before


def test_identities_are_compared(tmp_path: Path) -> None:
    name = package(tmp_path).partition(".")[0]
    found = plugins.identities([name, "yaml"])
    assert found[name].startswith("sha256:")
    assert found["yaml"].startswith("version ")
    assert plugins.difference(found) is None
    assert "differ from the driver's" in str(plugins.difference({name: "sha256:0"}))
    assert "the driver has version 0.1" in str(plugins.difference({"yaml": "version 0.1"}))
    assert "cannot be imported: name it under plugins" in str(plugins.difference({"nowhere": "sha256:0"}))


def test_a_copy_has_no_caches(tmp_path: Path) -> None:
    module = package(tmp_path)
    __import__(module)
    folder = tmp_path / module.partition(".")[0]
    plugins.copy(folder, tmp_path / "copy")
    assert sorted(path.name for path in (tmp_path / "copy").rglob("*")) == ["__init__.py", "it.py"]
    assert plugins.digest(tmp_path / "copy") == plugins.digest(folder)
