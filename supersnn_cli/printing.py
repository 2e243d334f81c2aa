"""What the command line prints: tables and JSON on standard output, lines about progress on standard error."""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from supersnn.training import EpochReport


def show(value: Any, table: Any, as_json: bool) -> None:
    """Print a value as one JSON document, or as what `table` makes of it."""
    if as_json:
        print(json.dumps(value, default=str))
        return
    from rich.console import Console

    Console().print(table(value))


def rows(values: Sequence[Any]) -> Any:
    """Return a table of a list of mappings."""
    from rich.table import Table

    plain = [value if isinstance(value, Mapping) else vars(value) for value in values]
    table = Table(box=None, pad_edge=False)
    for key in plain[0] if plain else ():
        table.add_column(str(key))
    for row in plain:
        table.add_row(*(text(value) for value in row.values()))
    return table


def two_columns(values: Mapping[str, Any]) -> Any:
    """Return a table of one mapping, a line a key."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=False)
    for key, value in values.items():
        table.add_row(key, text(value))
    return table


def text(value: object) -> str:
    """Return a value as it stands in a table's cell."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {text(one)}" for key, one in value.items())
    return "" if value is None else str(value)


def print_results(results: Mapping[str, Any]) -> None:
    """Print the arms, the verdicts and the answer of a sweep, as its report has them."""
    from rich.console import Console

    from analysis.report import table, verdict_table

    console = Console()
    for found in (table(results), verdict_table(results)):
        if found:
            console.print(rows(found))
            console.print()
    print(results["answer"])


def epoch_line(report: "EpochReport", epochs: int) -> str:
    """Return an epoch as one line."""
    shown = {name: report.metrics.get(name) for name in ("train/loss", "val/accuracy", "spikes/rate")}
    parts = [f"{name} {value:.4f}" for name, value in shown.items() if value is not None]
    return f"epoch {report.epoch}/{epochs}  " + "  ".join(parts)


def say(line: str) -> None:
    """Print a line on standard error."""
    print(line, file=sys.stderr, flush=True)
