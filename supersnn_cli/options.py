"""Options that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

StoreOption = Annotated[Path | None, typer.Option("--store", help="The store [SUPERSNN_STORE, else supersnn-store].")]
SetOption = Annotated[list[str], typer.Option("--set", help="Replace a value: dotted.key=value (YAML).")]
SharedOption = Annotated[
    str | None,
    typer.Option("--shared", help="An object store for what nodes exchange, as s3://BUCKET/FOLDER [SUPERSNN_SHARED]."),
]
AddressOption = Annotated[
    str | None, typer.Option("--address", help="A Ray cluster to join [RAY_ADDRESS, else this machine].")
]
LocalOption = Annotated[bool, typer.Option("--local", help="Run in this process, without Ray.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]
