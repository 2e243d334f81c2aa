"""Commands over stores that are damaged, read-only or empty, and on terminals that lack characters."""

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy.exc

from supersnn.errors import ExternalError, UserError, shortened
from supersnn_cli import exit_code
from supersnn_cli.failures import message
from supersnn_cli.printing import key_value_table, table_of
from tests.support.cli import invoke, run

SCHEMA1 = Path(__file__).parents[1] / "end_to_end" / "data" / "schema1" / "sweeps"
FILES = ["config.yaml", "journal.jsonl", "verified.json", "test-ledger.jsonl", "state.json", "lock"]
SECRET = "s3cr3t%40x"


def damaged(content: bytes) -> dict[str, Callable[[Path], object]]:
    return {
        "empty": lambda path: path.write_bytes(b""),
        "half": lambda path: path.write_bytes(content[: len(content) // 2]),
        "garbage": lambda path: path.write_bytes(bytes(range(256))),
        "another JSON": lambda path: path.write_bytes(b"[5]\n"),
        "Latin-1": lambda path: path.write_bytes(content + b"\xe9\n"),
        "with a BOM": lambda path: path.write_bytes(b"\xef\xbb\xbf" + content),
        "a folder": lambda path: path.mkdir(),
        "a dangling link": lambda path: path.symlink_to("/nowhere/at/all"),
        "missing": lambda path: path.exists(),
    }


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with one finished sweep."""
    folder = tmp_path / "store" / "sweeps" / "finished"
    shutil.copytree(SCHEMA1 / "finished", folder)
    for name in ("verified.json", "state.json"):
        (folder / name).write_text("{}")
    (folder / "test-ledger.jsonl").write_text('{"time": 1.0, "purpose": "verify direct/0/1000"}\n')
    (folder / "lock").touch()
    return tmp_path / "store"


@pytest.mark.parametrize("how", list(damaged(b"")))
@pytest.mark.parametrize(
    "file", ["config.yaml", "journal.jsonl", "verified.json", "test-ledger.jsonl", "state.json", "lock"]
)
def test_a_damaged_store_gives_one_line_or_works(file: str, how: str, store: Path) -> None:
    path = store / "sweeps" / "finished" / file
    content = path.read_bytes()
    path.unlink()
    damaged(content)[how](path)
    for command in ("status", "report"):
        result = invoke(command, "finished", "--store", store)
        if isinstance(result.exception, Exception):
            assert exit_code(result.exception) in (1, 2), result.exception
            assert "\n" not in message(result.exception)
            assert str(store) in message(result.exception)


def test_a_damaged_sweep_does_not_hide_the_others(store: Path) -> None:
    shutil.copytree(SCHEMA1 / "interrupted", store / "sweeps" / "interrupted")
    (store / "sweeps" / "finished" / "config.yaml").write_bytes(b"\xe9")
    result = invoke("status", "--store", store)
    assert result.exit_code == 1
    assert "interrupted" in result.stdout
    assert "config.yaml: not valid YAML" in result.stderr


def test_an_empty_store_is_said_to_be_empty(tmp_path: Path) -> None:
    result = run("status", "--store", tmp_path)
    assert result.stderr == f"no sweeps in {tmp_path}\n"
    assert run("status", "--store", tmp_path, "--json").stdout == "[]\n"


def test_status_and_report_write_nothing(store: Path) -> None:
    paths = [store, *store.rglob("*")]
    before = {path: path.stat().st_mtime_ns for path in paths}
    run("status", "--store", store)
    run("report", "finished", "--store", store)
    assert {path: path.stat().st_mtime_ns for path in [store, *store.rglob("*")]} == before


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_what_a_terminal_lacks_is_printed_in_another_form(encoding: str, store: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "LANG": "C"}
    commands = [["report", "finished"], ["status"], ["status", "nö\udcff"]]
    lines = ["import sys", "from supersnn_cli import main", "codes = []"]
    for command in commands:
        lines += [f"sys.argv = {['supersnn', *command, '--store', str(store)]!r}", "try: main()"]
        lines += ["except SystemExit as end: codes.append(end.code)"]
    code = "\n".join([*lines, "print(codes)"])
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment, timeout=120)
    assert b"Traceback" not in result.stderr
    assert result.stdout.decode(encoding).splitlines()[-1] == "[0, 0, 2]"
    assert "no sweep" in result.stderr.decode(encoding)


def test_marks_in_square_brackets_are_text() -> None:
    from rich.console import Console

    console = Console(width=80, record=True, file=io.StringIO())
    console.print(table_of([{"[red]": "img/text[b].png", "x": "[/]"}]), key_value_table({"[b]": "a[/b]"}))
    text = console.export_text()
    for words in ("[red]", "img/text[b].png", "[/]", "[b]", "a[/b]"):
        assert words in text


def test_no_password_is_printed(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "sweep.yaml"
    run("init", file)
    address = f"postgresql+psycopg://me:{SECRET}@127.0.0.1:9/x?connect_timeout=1&sslpassword={SECRET}"
    for name in ("SUPERSNN_OPTUNA_STORAGE", "MLFLOW_TRACKING_URI"):
        monkeypatch.setenv(name, address)
    for command in (
        ["doctor"],
        ["doctor", "--json"],
        ["sweep", file, "--local"],
        ["verify", "finished", "--local"],
        ["status"],
        ["report", "finished"],
        ["export", "finished", "--to", tmp_path / "export"],
        ["ui"],
    ):
        result = invoke(*command, "--store", store)
        shown = result.output + ("" if result.exception is None else _shown(result.exception))
        if command[0] in ("sweep", "verify"):
            assert "SUPERSNN_OPTUNA_STORAGE: postgresql+psycopg://***@127.0.0.1:9/x" in shown
        for form in (SECRET, "s3cr3t@x", "s3cr3t"):
            assert form not in shown, (command, shown)


def _shown(error: BaseException) -> str:
    if not isinstance(error, Exception):
        return ""
    assert exit_code(error) in (1, 2), error
    return message(error)


def test_failures_of_disk_and_database_are_one_line_and_exit_code_1() -> None:
    locked = sqlalchemy.exc.OperationalError("SELECT 1", {}, Exception("database is locked"))
    wrapped = RuntimeError("internal")
    wrapped.__cause__ = locked
    assert (exit_code(locked), exit_code(wrapped)) == (1, None)
    assert message(locked) == "the studies' database has failed: database is locked (the same command continues)"
    full = OSError(28, "No space left on device", "/store/journal.jsonl")
    assert (exit_code(full), message(full)) == (1, "/store/journal.jsonl: No space left on device")
    assert (exit_code(ExternalError("x")), exit_code(UserError("x")), exit_code(ValueError("x"))) == (1, 2, None)


def test_a_long_message_is_cut_behind_a_word() -> None:
    assert shortened("one two\n three", 300) == "one two three"
    assert shortened("one two three", 11) == "one two …"
    assert len(shortened("x" * 400)) <= 80


def test_doctor_says_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "mlflow.db").write_bytes(b"garbage" * 100)
    (tmp_path / "optuna.db").write_bytes(b"garbage" * 100)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    result = invoke("doctor", "--store", tmp_path, "--json")
    assert result.exit_code == 1
    findings = {finding["what"]: finding for finding in json.loads(result.stdout)}
    assert {what for what, finding in findings.items() if not finding["ok"]} == {"studies", "MLflow", "Ray"}
    assert result.stderr.splitlines()[-1] == "to be fixed: studies, MLflow, Ray"
