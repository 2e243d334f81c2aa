"""The checks of `supersnn doctor`, and the file that `supersnn init` writes."""

from pathlib import Path

import pytest

from supersnn.errors import UserError
from tune.description import template
from tune.description.arms import resolve
from tune.description.sweep import load
from tune.store import Store
from tune.terminal.doctor import examine


def test_doctor_accepts_this_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUPERSNN_OPTUNA_STORAGE", raising=False)
    findings = {finding.what: finding for finding in examine(Store(tmp_path / "not" / "yet"))}
    assert all(finding.ok for finding in findings.values()), findings
    assert findings["package tune"].found == "supersnn"
    assert not (tmp_path / "not").exists()


def test_doctor_finds_an_unreachable_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPERSNN_OPTUNA_STORAGE", f"sqlite:///{tmp_path}/missing/folder/x.db")
    findings = {finding.what: finding for finding in examine(Store(tmp_path))}
    assert not findings["studies"].ok
    assert "SUPERSNN_OPTUNA_STORAGE" in findings["studies"].found


def test_doctor_finds_an_unreachable_object_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPERSNN_SHARED", f"file://{tmp_path}")
    findings = {finding.what: finding for finding in examine(Store(tmp_path))}
    assert findings["shared"].ok
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SUPERSNN_SHARED", f"file://{tmp_path}/file/below")
    findings = {finding.what: finding for finding in examine(Store(tmp_path))}
    assert not findings["shared"].ok


def test_template_is_a_valid_sweep_and_overwrites_nothing(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    template.write(path)
    assert list(resolve(load(path))) == ["direct", "homogeneous", "heterogeneous"]
    path.write_text("name: kept", encoding="utf-8")
    with pytest.raises(UserError, match="exists already"):
        template.write(path)
    assert path.read_text(encoding="utf-8") == "name: kept"
