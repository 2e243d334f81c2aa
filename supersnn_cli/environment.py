"""Commands around a sweep: `init`, `doctor`, `ui`, `data list` and `data get`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from supersnn_cli.options import JsonOption, StoreOption
from supersnn_cli.printing import print_message, print_result, table_of


def init(file: Annotated[Path, typer.Argument(help="The file to write.")] = Path("sweep.yaml")) -> None:
    """Write a commented sweep file to start from."""
    from tune.description.template import write

    write(file)
    print_message(f"wrote {file}; `supersnn sweep {file} --dry-run` checks it and prints the plan")


def doctor(store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Check Python, packages, devices, store, data, databases, MLflow and Ray; exit code 1 if a check fails."""
    from tune.store import Store
    from tune.terminal.doctor import examine, verdict

    findings = examine(Store.at(store))
    if as_json:
        print(json.dumps([vars(finding) for finding in findings]))
    else:
        rows = [{"": "" if finding.ok else "!", "check": finding.what, "found": finding.found} for finding in findings]
        print_result(rows, table_of, as_json=False)
    print_message(verdict(findings))
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


def ui(
    store: StoreOption = None,
    host: Annotated[
        str, typer.Option(help="The address to listen on; by default reachable from this machine only.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen on.")] = 5000,
) -> None:
    """Start the MLflow UI of the store, and print the addresses of each sweep's comparison views."""
    from tune.store import Store
    from tune.tracking import server

    raise typer.Exit(server.serve(Store.at(store).path, host, port))


def data_list(as_json: JsonOption = False) -> None:
    """List the data sets, and whether each is downloaded."""
    from supersnn.sources import registry

    print_result(registry.available(), table_of, as_json)


def data_get(name: Annotated[str, typer.Argument(help="A data set's name; see `supersnn data list`.")]) -> None:
    """Download a data set, or print which files to put where."""
    from supersnn.sources import registry

    registry.fetch(name)
    print_message(f"{name}: ready")
