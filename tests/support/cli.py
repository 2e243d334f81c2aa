"""Commands of `supersnn` run in this process."""

import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from supersnn_cli import app


def invoke(*arguments: str | Path) -> Result:
    """Run a command to its end, whichever that is."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def run(*arguments: str | Path) -> Result:
    """Run a command that must succeed; an exception of its own is raised here."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


def run_json(*arguments: str | Path) -> Any:
    """Run a command with `--json` that must succeed; return what it prints."""
    return json.loads(run(*arguments, "--json").stdout)
