"""The typer application: registers the commands in groups and maps exceptions to exit codes."""

import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from supersnn_cli import environment, results, students, sweeps, trainings
from supersnn_cli.printing import print_message

COMMANDS: dict[str, tuple[Callable[..., Any], ...]] = {
    "Run": (sweeps.sweep, sweeps.verify, trainings.train, trainings.teach),
    "Results": (sweeps.status, results.report),
    "Exports": (results.export, students.check, students.evaluate, students.predict),
    "Environment": (environment.init, environment.doctor, environment.ui),
}
"""The commands by help panel; each command has its function's name."""

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for panel, commands in COMMANDS.items():
    for command in commands:
        app.command(rich_help_panel=panel)(command)

data = typer.Typer(help="List and download data sets.", no_args_is_help=True)
data.command("list")(environment.data_list)
data.command("get")(environment.data_get)
app.add_typer(data, name="data", rich_help_panel="Environment")


def _print_version(requested: bool) -> None:
    if requested:
        import supersnn

        print(f"supersnn {supersnn.__version__}")
        raise typer.Exit


@app.callback()
def _application(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Search, train, verify and export spiking neural networks distilled from artificial ones."""


def main() -> None:
    """Run the command line; a usage error is printed as one line and ends with exit code 2."""
    try:
        app(standalone_mode=True)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        code = exit_code(error)
        if code is None:
            raise
        print_message(f"supersnn: {error}")
        sys.exit(code)


def exit_code(error: Exception) -> int | None:
    """Return 2 for a usage error, 1 for a damaged file, None for an internal error, which keeps its traceback."""
    from supersnn.errors import UserError
    from supersnn.files import DamagedFile

    if isinstance(error, UserError):
        return 2
    return 1 if isinstance(error, DamagedFile) else None
