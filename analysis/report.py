"""Entry points to the reports: results as JSON, rows of the printed tables, CSV and Parquet files, the page."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

import pandas as pd

from analysis import compare, equal_energy
from analysis.page import render
from analysis.results import equal_energy_table, pooled, results, table, verdict_tables
from analysis.tables import Sweep, Tables
from supersnn.errors import UserError
from supersnn.files import atomic_file, write_atomically

__all__ = [
    "equal_energy_table",
    "pooled",
    "results",
    "table",
    "up_to_date",
    "verdict_tables",
    "write_csv",
    "write_html",
    "write_parquet",
]


def write_html(sweeps: Iterable[Sweep], path: Path | str, margin: float = compare.MARGIN) -> None:
    """Write the report of one or several sweeps as one self-contained page, atomically.

    Raises:
        UserError: the file cannot be written.
    """
    page = render(list(sweeps), margin).encode("utf-8", "replace")
    with _writing(Path(path)):
        write_atomically(Path(path), page)


def up_to_date(folder: Path) -> bool:
    """Return whether a sweep's folder has its report, written after the last event."""
    page, journal = folder / "report.html", folder / "journal.jsonl"
    try:
        return page.stat().st_mtime_ns >= journal.stat().st_mtime_ns
    except OSError:
        return False


def write_csv(tables: Tables, folder: Path | str) -> list[Path]:
    """Write each table, and the verdicts, as CSV into a folder; return the files.

    Raises:
        UserError: a file cannot be written.
    """
    written = []
    for name, frame in _frames(tables).items():
        written.append(Path(folder) / f"{name}.csv")
        with _writing(written[-1]), atomic_file(written[-1]) as unfinished:
            frame.to_csv(unfinished, index=False, errors="replace")
    return written


def write_parquet(tables: Tables, folder: Path | str) -> list[Path]:
    """Write each table, and the verdicts, as Parquet into a folder; return the files.

    Raises:
        UserError: a file cannot be written.
    """
    written = []
    for name, frame in _frames(tables).items():
        written.append(Path(folder) / f"{name}.parquet")
        mixed = [c for c in frame if frame[c].dtype == object]
        with _writing(written[-1]), atomic_file(written[-1]) as unfinished:
            frame.astype(dict.fromkeys(mixed, "str")).to_parquet(unfinished, index=False)
    return written


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Name the file that cannot be written in the block."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"{path}: cannot be written: {reason}; name a place that can be written to") from error


def _frames(tables: Tables) -> dict[str, pd.DataFrame]:
    frames = {field.name: getattr(tables, field.name) for field in fields(Tables)}
    at_equal_energy = equal_energy.verdicts(tables.anytime)
    return frames | {"verdicts": compare.verdicts(tables.verified), "equal_energy": at_equal_energy}
