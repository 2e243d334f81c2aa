"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer


def _expanded(option: typer.CallbackParam, value: Path | str | None) -> Path | str | None:
    """Return an option's value with the environment variables in it, `${NAME}`, replaced."""
    if value is None or "${" not in str(value):
        return value
    from supersnn.environment import expanded

    return type(value)(expanded(str(value), f"--{option.name}"))


StoreOption = Annotated[
    Path | None,
    typer.Option(
        "--store",
        help="The store's folder (default: SUPERSNN_STORE, else supersnn-store).",
        callback=_expanded,
    ),
]
SweepFiles = Annotated[
    list[Path],
    typer.Argument(metavar="FILE", help="The sweep's YAML file; of several, the values of later ones win."),
]
SetOption = Annotated[list[str], typer.Option("--set", help="Override a value of the file: dotted.key=value (YAML).")]
SharedOption = Annotated[
    str | None,
    typer.Option(
        "--shared",
        help="Object store for the files that nodes exchange, as s3://BUCKET/FOLDER (default: SUPERSNN_SHARED).",
        callback=_expanded,
    ),
]
AddressOption = Annotated[
    str | None,
    typer.Option(
        "--address",
        help="Ray cluster to join (default: RAY_ADDRESS, else a local Ray on this machine).",
        callback=_expanded,
    ),
]
LocalOption = Annotated[bool, typer.Option("--local", help="Run in this process, without Ray.")]
TrustOption = Annotated[bool, typer.Option("--trust", help="Import the code that the export contains; read it first.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]
