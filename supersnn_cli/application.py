"""The typer application: registers the commands in groups and maps exceptions to exit codes."""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated, Any

import typer

from supersnn_cli import environment, parts, planning, results, steering, students, sweeps, trainings, trials
from supersnn_cli.failures import exit_code, message
from supersnn_cli.output import UNREAD, Output
from supersnn_cli.printing import print_any_character, print_message
from supersnn_cli.termination import INTERRUPTED, Termination

COMMANDS: dict[str, tuple[Callable[..., Any], ...]] = {
    "Run": (sweeps.sweep, planning.plan, sweeps.verify, trainings.train, trainings.teach),
    "Steer": (
        steering.change,
        steering.enqueue,
        steering.retry,
        steering.pause,
        steering.resume,
        steering.stop,
    ),
    "Results": (sweeps.status, trials.trials, trials.show, results.report),
    "Exports": (results.export, students.check, students.evaluate, students.predict),
    "Environment": (environment.init, environment.doctor, environment.ui, parts.check_part),
}
"""The commands by help panel; each command has its function's name, with hyphens."""

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


EXPANDED = (
    "SUPERSNN_STORE", "SUPERSNN_DATA", "SUPERSNN_SHARED", "SUPERSNN_SCRATCH", "SUPERSNN_OPTUNA_STORAGE",
    "MLFLOW_TRACKING_URI", "RAY_ADDRESS",
)  # fmt: skip
"""The environment variables with paths and addresses, in which other variables may be named as `${NAME}`."""


def _expand_environment() -> None:
    """Replace the variables in paths and addresses once, before any command reads them.

    Raises:
        UserError: one is not set.
    """
    for name in EXPANDED:
        if "${" in (value := os.environ.get(name, "")):
            from supersnn.environment import expanded

            os.environ[name] = expanded(value, name)


@app.callback()
def _application(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Search, train, verify and export spiking neural networks distilled from artificial ones."""
    _expand_environment()


def main() -> None:
    """Run the command line; an error that is not the program's own is printed as one line, see `exit_code`."""
    print_any_character()
    termination, output = Termination(), Output()
    try:
        with output.written_out():
            app(standalone_mode=True)
    except SystemExit as end:
        sys.exit(termination.exit_code(end.code))
    except KeyboardInterrupt:
        sys.exit(termination.exit_code(INTERRUPTED))
    except Exception as error:
        if isinstance(error, BrokenPipeError) and output.is_unread():
            sys.exit(UNREAD)
        code = exit_code(error)
        if code is None:
            raise
        with suppress(OSError):  # standard error is full or closed: nobody can be told
            print_message(f"supersnn: {message(error)}")
        sys.exit(code)
    finally:
        termination.close()
        output.close()
