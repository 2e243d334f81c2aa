"""What is around a sweep: a file to begin with, data sets, this machine, MLflow's UI."""

from pathlib import Path
from typing import Annotated

import typer

from supersnn_cli.options import JsonOption, StoreOption
from supersnn_cli.printing import rows, say, show


def init(file: Annotated[Path, typer.Argument(help="The file to write.")] = Path("sweep.yaml")) -> None:
    """Write a commented sweep file to begin with."""
    from tune.description.template import write

    write(file)
    say(f"{file} is written; `supersnn sweep {file} --dry-run` shows what it would do")


def doctor(store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Look whether everything is here that a sweep needs; exit 1 where something is missing."""
    from tune.store import Store
    from tune.terminal.doctor import examine

    findings = examine(Store.at(store))
    show([vars(finding) for finding in findings], rows, as_json)
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


def ui(
    store: StoreOption = None,
    host: Annotated[str, typer.Option(help="Where to listen; only this machine unless told.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port.")] = 5000,
) -> None:
    """Open the store's MLflow UI, with the addresses of each sweep's comparison views."""
    from tune.store import Store
    from tune.tracking import server

    raise typer.Exit(server.serve(Store.at(store).path, host, port))


def data_list(as_json: JsonOption = False) -> None:
    """List the data sets, and which of them are here."""
    from supersnn.sources import registry

    show(registry.available(), rows, as_json)


def data_get(name: Annotated[str, typer.Argument(help="A data set's name.")]) -> None:
    """Fetch a data set, or say which files to put where."""
    from supersnn.sources import registry

    registry.fetch(name)
    say(f"{name} is here")
