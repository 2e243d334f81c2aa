"""The front door: which commands there are, and what becomes of an error."""

import sys

import typer

from supersnn_cli import environment, results, students, sweeps, trainings
from supersnn_cli.printing import say

COMMANDS = (
    *(sweeps.sweep, sweeps.verify, results.export, students.check, trainings.train, trainings.teach),
    *(students.evaluate, students.predict, results.report, sweeps.status),
    *(environment.doctor, environment.init, environment.ui),
)
"""The commands, in the order of the help, each under its function's name."""

app = typer.Typer(
    help="Search, train, verify and export spiking networks taught by artificial ones.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in COMMANDS:
    app.command()(command)

data = typer.Typer(help="The data sets.", no_args_is_help=True)
data.command("list")(environment.data_list)
data.command("get")(environment.data_get)
app.add_typer(data, name="data")


def main() -> None:
    """Run the command line; a mistake of the user's becomes one line and exit code 2."""
    try:
        app(standalone_mode=True)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        code = exit_code(error)
        if code is None:
            raise
        say(f"supersnn: {error}")
        sys.exit(code)


def exit_code(error: Exception) -> int | None:
    """Return 2 for the user's mistakes, 1 for a damaged file, None for a fault of ours, which shows its traceback."""
    from supersnn.errors import UserError
    from supersnn.files import DamagedFile

    if isinstance(error, UserError):
        return 2
    return 1 if isinstance(error, DamagedFile) else None
