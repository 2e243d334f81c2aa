"""Access to the test images: the ledger's entries, and that no other module reads a test part.

That searches cannot import `supersnn.test_set` is a contract of import-linter.
"""

import ast
import fcntl
import json
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest
import torch

import supersnn
from supersnn.config import DatasetConfig
from supersnn.data import fingerprint, training_data
from supersnn.errors import UserError
from supersnn.test_set import append, open_test, opened_at

ROOT = Path(supersnn.__file__).parents[1]
DIGITS = DatasetConfig(name="digits")


def test_each_opening_adds_a_line(tmp_path: Path) -> None:
    ledger = tmp_path / "sweep" / "test-ledger.jsonl"
    images = open_test(DIGITS, ledger, "verify direct/3 seed 1")
    first = ledger.read_bytes()
    open_test(DIGITS, ledger, "check")
    assert ledger.read_bytes().startswith(first)
    lines = [json.loads(line) for line in ledger.read_text().splitlines()]
    assert [line["purpose"] for line in lines] == ["verify direct/3 seed 1", "check"]
    assert lines[0]["dataset"] == "digits"
    assert lines[0]["count"] == len(images) == 359
    assert lines[0]["fingerprint"] == lines[1]["fingerprint"] == fingerprint(tuple("0123456789"), images)
    assert 1.7e9 < lines[0]["time"] <= lines[1]["time"]


def test_without_the_line_there_are_no_images(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError):
        open_test(DIGITS, tmp_path / "file" / "ledger.jsonl", "verify")


def test_a_mistake_opens_nothing_and_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError):
        open_test(DatasetConfig(name="digit"), tmp_path / "ledger.jsonl", "verify")
    assert not (tmp_path / "ledger.jsonl").exists()


def test_a_torn_line_does_not_swallow_the_next(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.jsonl"
    ledger.write_text('{"time": 1')
    open_test(DIGITS, ledger, "verify")
    assert json.loads(ledger.read_text().splitlines()[-1])["purpose"] == "verify"


def test_a_test_that_was_cut_short_goes_on_under_its_own_line(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.jsonl"
    ledger.write_text('{"purpose": "verify"}\n["no", "note"]\n{"torn')
    one, other = "verify a/1/7", "verify a/1/8"
    for purpose, weights in ((one, "w"), (one, "w"), (other, "w"), (one, "v")):
        assert len(open_test(DIGITS, ledger, purpose, weights=weights)) == 359
    lines = [json.loads(line) for line in ledger.read_text().splitlines()[3:]]
    assert [(line["purpose"], line["weights"]) for line in lines] == [(one, "w"), (other, "w"), (one, "v")]
    assert [opened_at(ledger, one, "w"), opened_at(ledger, one, "v")] == [lines[0]["time"], lines[2]["time"]]
    with pytest.raises(ValueError, match="no entry"):
        opened_at(ledger, other, "v")
    for _ in range(2):
        open_test(DIGITS, ledger, "check")
    assert len(ledger.read_text().splitlines()) == 8


def test_a_line_waits_for_the_one_that_is_being_written(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.jsonl"
    with ledger.open("wb", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        waiting = Thread(target=append, args=(ledger, "line\n"))
        waiting.start()
        waiting.join(0.5)
        file.write(b"first\n")
    waiting.join(10)
    assert ledger.read_text() == "first\nline\n"


def test_no_test_image_is_in_the_training_data(tmp_path: Path) -> None:
    test_images = {image.numpy().tobytes() for image in open_test(DIGITS, tmp_path / "ledger", "test").pixels}
    data = training_data(DIGITS)
    seen = {image.numpy().tobytes() for image in torch.cat([data.train.pixels, data.validation.pixels])}
    assert not test_images & seen


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Every module of the packages outside `supersnn.sources`, by its path."""
    for path in [p for f in ("supersnn", "supersnn_cli", "tune", "analysis") for p in (ROOT / f).rglob("*.py")]:
        name = path.relative_to(ROOT).as_posix()
        if path.exists() and not name.startswith("supersnn/sources/"):
            yield name, ast.parse(path.read_text(encoding="utf-8"))


def imported(module: ast.Module) -> dict[str, str]:
    """Return the full names of a module's imports, as `{"read": "supersnn.sources.registry.read"}`."""
    names: dict[str, str] = {}
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            names |= {alias.asname or alias.name: alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names


def used(module: ast.Module, package: str) -> set[str]:
    """Return the full names that a module uses of a package; of an imported module, each attribute."""
    names = {name: full for name, full in imported(module).items() if full.startswith(package)}
    attributes = {
        f"{names[ast.unparse(node.value)]}.{node.attr}"
        for node in ast.walk(module)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in names
    }
    imported_modules = {full for full in names.values() if any(a.startswith(f"{full}.") for a in attributes)}
    return (set(names.values()) - imported_modules) | attributes


def test_only_data_and_test_set_read_sources() -> None:
    sources = "supersnn.sources."
    names = {"registry.available", "registry.fetch", "registry.is_present", "registry.inspect", "registry.resolved"}
    names |= {"base.RawImages", "base.SkippedFile", "base.data_root", "split.stratified", "image_files.read_image"}
    names.add("image_files.resized")
    harmless = {sources + name for name in names}  # none returns pixels of a data set
    readers = {}
    for name, module in modules():
        if reading := used(module, sources.rstrip(".")) - harmless:
            assert reading == {f"{sources}registry.read"}, f"{name} takes {reading}"
            mentions = [n for n in ast.walk(module) if isinstance(n, ast.Name) and n.id == "read"]
            calls = [n for n in ast.walk(module) if isinstance(n, ast.Call) and ast.unparse(n.func) == "read"]
            assert len(mentions) == len(calls), f"{name} passes `read` on"
            readers[name] = {ast.unparse(call.args[1]) for call in calls}
    assert readers == {"supersnn/data.py": {"'train'"}, "supersnn/test_set.py": {"'test'"}}
