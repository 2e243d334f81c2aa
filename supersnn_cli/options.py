"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

StoreOption = Annotated[
    Path | None, typer.Option("--store", help="The store's folder (default: SUPERSNN_STORE, else supersnn-store).")
]
SetOption = Annotated[list[str], typer.Option("--set", help="Override a value of the file: dotted.key=value (YAML).")]
SharedOption = Annotated[
    str | None,
    typer.Option(
        "--shared",
        help="Object store for the files that nodes exchange, as s3://BUCKET/FOLDER (default: SUPERSNN_SHARED).",
    ),
]
AddressOption = Annotated[
    str | None,
    typer.Option("--address", help="Ray cluster to join (default: RAY_ADDRESS, else a local Ray on this machine)."),
]
LocalOption = Annotated[bool, typer.Option("--local", help="Run in this process, without Ray.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]
