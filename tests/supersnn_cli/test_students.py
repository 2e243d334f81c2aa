"""`check`, `evaluate` and `predict` of an exported student, and what they print."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from supersnn import exported
from supersnn.config import TrainConfig
from supersnn.config_model import parse
from supersnn.data import training_data
from supersnn.exported import Preprocessing
from supersnn.networks.build import build
from supersnn_cli.failures import exit_code
from supersnn_cli.printing import key_value_table, print_result, table_of
from tests.support.cli import invoke, run, run_json


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """An untrained student for the digits."""
    plain = {"dataset": {"name": "digits"}, "student": {"architecture": "resnet8", "stem_stride": 4}}
    config = parse(TrainConfig, plain, "test")
    data = training_data(config.dataset)
    weights = build(config.student, config.neuron, data.shape, 10).state_dict()
    exported.write(tmp_path / "export", config, weights, Preprocessing.of(data), {"val_accuracy": 0.1})
    return tmp_path / "export"


@pytest.mark.parametrize("name", ["text[b].png", "[red]a[bold].png", "[link=x]a.png", ":smile:.png", "é[ü].png"])
def test_names_of_files_are_printed_as_they_are(export: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(export.parent)
    Image.new("L", (8, 8)).save(name)
    assert name in run("predict", export, name).stdout
    assert run_json("predict", export, name)[0]["image"] == name


def test_long_names_are_printed_whole(export: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(export.parent)
    name = "n" * 200 + ".png"
    Image.new("L", (8, 8)).save(name)
    printed = run("predict", export, name).stdout
    assert printed.count("n") >= 200
    assert "…" not in printed


@pytest.mark.parametrize("table", [lambda row: table_of([row]), key_value_table])
def test_tables_print_data_as_they_are(table: Callable[[object], object], capsys: pytest.CaptureFixture[str]) -> None:
    print_result({"[bold]key": "[x] [/] :smile:"}, table, as_json=False)
    printed = capsys.readouterr().out
    assert "[bold]key" in printed
    assert "[x] [/] :smile:" in printed


def test_a_bad_image_is_a_usage_error(export: Path, tmp_path: Path) -> None:
    (tmp_path / "bad[b].png").write_bytes(b"P6\n6")
    result = invoke("predict", export, tmp_path / "bad[b].png")
    assert isinstance(result.exception, Exception)
    assert exit_code(result.exception) == 2
    assert str(result.exception).startswith(f"{tmp_path}/bad[b].png: not a readable image")


def test_evaluate_prints_the_accuracy_of_each_class_by_its_name(export: Path) -> None:
    found = run_json("evaluate", export, "--data", "digits")
    assert list(found["per_class"]) == list("0123456789")
    assert len((export / exported.LEDGER).read_text().splitlines()) == 1
    assert run("evaluate", export, "--data", "digits").exit_code == 0


def test_evaluate_refuses_other_class_names(export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPERSNN_DATA", str(tmp_path / "data"))
    for name in ("zero", "one"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for number in range(5):
            Image.new("L", (8, 8), number).save(tmp_path / "set" / name / f"{number}.png")
    result = invoke("evaluate", export, "--data", f"folder:{tmp_path / 'set'}")
    assert isinstance(result.exception, Exception)
    assert exit_code(result.exception) == 2
    assert "its classes are 'one', 'zero'; the student's are '0', '1'" in str(result.exception)
    assert not (export / exported.LEDGER).exists()


@pytest.mark.parametrize("command", [("check",), ("evaluate", "--data", "digits"), ("predict", "a.png")])
def test_a_damaged_export_ends_with_1(export: Path, command: tuple[str, ...]) -> None:
    path = export / "preprocessing.json"
    plain = json.loads(path.read_text())
    path.write_text(json.dumps({**plain, "side": -1}))
    result = invoke(command[0], export, *command[1:])
    assert isinstance(result.exception, Exception)
    assert exit_code(result.exception) == 1
