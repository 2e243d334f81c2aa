"""What `supersnn doctor` finds, and what `supersnn init` writes."""

from pathlib import Path

import pytest

from supersnn.errors import UserError
from tune.description import template
from tune.description.arms import resolve
from tune.description.sweep import load
from tune.store import Store
from tune.terminal.doctor import examine


def test_this_environment_is_whole_and_its_packages_are_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUPERSNN_OPTUNA_STORAGE", raising=False)
    findings = {finding.what: finding for finding in examine(Store(tmp_path / "not" / "yet"))}
    assert all(finding.ok for finding in findings.values()), findings
    assert findings["package tune"].found == "supersnn"
    assert not (tmp_path / "not").exists()


def test_a_database_that_is_away_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPERSNN_OPTUNA_STORAGE", f"sqlite:///{tmp_path}/missing/folder/x.db")
    findings = {finding.what: finding for finding in examine(Store(tmp_path))}
    assert not findings["studies"].ok
    assert "SUPERSNN_OPTUNA_STORAGE" in findings["studies"].found


def test_an_object_store_that_cannot_be_had_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPERSNN_SHARED", f"file://{tmp_path}")
    findings = {finding.what: finding for finding in examine(Store(tmp_path))}
    assert findings["shared"].ok
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SUPERSNN_SHARED", f"file://{tmp_path}/file/below")
    findings = {finding.what: finding for finding in examine(Store(tmp_path))}
    assert not findings["shared"].ok


def test_the_starter_is_a_right_sweep_and_overwrites_nothing(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    template.write(path)
    assert list(resolve(load(path))) == ["direct", "homogeneous", "heterogeneous"]
    path.write_text("name: kept", encoding="utf-8")
    with pytest.raises(UserError, match="already"):
        template.write(path)
    assert path.read_text(encoding="utf-8") == "name: kept"
