"""Output helpers: tables and JSON on standard output, messages and progress on standard error."""

import codecs
import io
import json
import sys
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from supersnn.epoch_report import EpochReport

PROBLEMS = 10
"""Problems of a sweep's folder that are printed; the JSON and the page have all."""


EQUAL = "at equal energy, after fewer time steps (steps) or by early exits (confidence)"

PLAIN = {"±": "+/-", "−": "-", "–": "-", "·": "|", "…": "...", "×": "x", "→": "->", "≤": "<=", "≥": ">=", "µ": "u"}
"""What is printed for characters that the terminal's encoding lacks."""


def print_any_character() -> None:
    """Print characters that the encoding of standard output or standard error lacks in another form; never raise."""
    codecs.register_error("supersnn.plain", _plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="supersnn.plain")


def _plain(error: UnicodeError) -> tuple[str, int]:
    """Return the replacement of characters that cannot be encoded, and where to go on."""
    assert isinstance(error, UnicodeEncodeError)
    return "".join(map(_plain_character, error.object[error.start : error.end])), error.end


def _plain_character(character: str) -> str:
    decomposed = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return PLAIN.get(character) or decomposed or "?"


def print_result(value: Any, table: Callable[[Any], Any], as_json: bool) -> None:
    """Print a value as one JSON document, or as the rich renderable that `table` makes of it."""
    if as_json:
        print(json.dumps(value, default=str))
        return
    from rich.console import Console

    Console().print(table(value))


def table_of(values: Sequence[Any]) -> Any:
    """Return a table of mappings or plain objects: a row each, a column for each key or attribute of the first."""
    from rich.table import Table
    from rich.text import Text  # without markup: data may contain brackets

    rows = [value if isinstance(value, Mapping) else vars(value) for value in values]
    table = Table(box=None, pad_edge=False)
    for key in rows[0] if rows else ():
        table.add_column(Text(str(key)), overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell(value)) for value in row.values()))
    return table


def key_value_table(values: Mapping[str, Any]) -> Any:
    """Return a table of one mapping: a row for each key."""
    from rich.table import Table
    from rich.text import Text  # without markup: data may contain brackets

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(overflow="fold")
    table.add_column(overflow="fold")
    for key, value in values.items():
        table.add_row(Text(key), Text(cell(value)))
    return table


def cell(value: object) -> str:
    """Return the text of a table's cell: floats with four significant digits, None empty."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {cell(item)}" for key, item in value.items())
    return "" if value is None else str(value)


def print_results(results: Mapping[str, Any]) -> None:
    """Print a sweep's arms, verdicts, answer, cautions and problems, as in its report."""
    from analysis.report import table

    _print_said(results, table(results), results["cautions"])
    for line in results["problem_lines"][:PROBLEMS]:
        print(f"problem: {line}")
    if (more := len(results["problem_lines"]) - PROBLEMS) > 0:
        print(f"and {more} more problems: supersnn report --json or --html lists them")


def print_pooled(said: Mapping[str, Any]) -> None:
    """Print what several sweeps that ask one question say together."""
    print(f"\ntogether: {', '.join(said['sweeps'])}")
    _print_said(said)


def _print_said(said: Mapping[str, Any], arms: Sequence[Any] = (), cautions: Sequence[str] = ()) -> None:
    """Print a table of arms, the verdicts, and the sentences about them: the answer and its evidence first."""
    from rich.console import Console
    from rich.text import Text  # without markup: data may contain brackets

    from analysis.report import equal_energy_table, verdict_tables

    console = Console()
    for title, rows in (("", arms), *verdict_tables(said), (EQUAL, equal_energy_table(said))):
        if rows and title:
            console.print(Text(title, style="bold"))
        if rows:
            console.print(table_of(rows))
            console.print()
    for line in dict.fromkeys(filter(None, (said["headline"], said["evidence"], *cautions, *said["remarks"]))):
        print(line)


def epoch_line(report: "EpochReport", epochs: int) -> str:
    """Return an epoch as one line."""
    values = {name: report.metrics.get(name) for name in ("train/loss", "val/accuracy", "spikes/rate")}
    parts = [f"{name} {value:.4f}" for name, value in values.items() if value is not None]
    return f"epoch {report.epoch}/{epochs}  " + "  ".join(parts)


def print_message(line: str) -> None:
    """Print a line on standard error."""
    print(line, file=sys.stderr, flush=True)
