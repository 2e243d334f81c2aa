"""Where output cannot go: pipes that nobody reads, full devices, closed streams."""

import subprocess
import sys
from typing import NoReturn

import pytest

from supersnn_cli import application
from supersnn_cli.output import UNREAD


def shell(arguments: str, after: str) -> tuple[int, str]:
    """Run a command with something behind it; return its exit code and what reaches standard error."""
    line = f'PYTHONUNBUFFERED= "{sys.executable}" -m supersnn_cli {arguments} {after}; exit ${{PIPESTATUS[0]}}'
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=120)
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("arguments", "after", "code", "words"),
    [
        ("--version", "| true", UNREAD, ""),
        ("data list", "| true", UNREAD, ""),
        ("--version", ">/dev/full", 1, "supersnn: No space left on device\n"),
        ("report x --store /nowhere", "2>/dev/full", 2, ""),
        ("--version", "2>&-", 0, ""),
    ],
)
def test_an_output_that_cannot_be_written(arguments: str, after: str, code: int, words: str) -> None:
    assert shell(arguments, after) == (code, words)


def test_another_connection_that_breaks_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Typer would end the process without a word."""

    def broken(**_options: bool) -> NoReturn:
        try:
            raise BrokenPipeError(32, "Broken pipe")
        except OSError:
            sys.exit(1)

    monkeypatch.setattr(application, "app", broken)
    with pytest.raises(SystemExit) as ended:
        application.main()
    assert ended.value.code == 1
    assert capsys.readouterr().err == "supersnn: Broken pipe\n"
