"""Entry points to the reports: results as JSON, rows of the printed tables, CSV and Parquet files, the page."""

from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path

import pandas as pd

from analysis import compare
from analysis.page import render
from analysis.results import results, table, verdict_table
from analysis.tables import Sweep, Tables
from supersnn.files import write_atomically

__all__ = ["results", "table", "verdict_table", "write_csv", "write_html", "write_parquet"]


def write_html(sweeps: Iterable[Sweep], path: Path | str, margin: float = compare.MARGIN) -> None:
    """Write the report of one or several sweeps as one self-contained page, atomically."""
    write_atomically(Path(path), render(list(sweeps), margin))


def write_csv(tables: Tables, folder: Path | str) -> list[Path]:
    """Write each table, and the verdicts, as CSV into a folder; return the files."""
    written = []
    for name, frame in _frames(tables).items():
        written.append(Path(folder) / f"{name}.csv")
        written[-1].parent.mkdir(parents=True, exist_ok=True)
        frame.to_csv(written[-1], index=False)
    return written


def write_parquet(tables: Tables, folder: Path | str) -> list[Path]:
    """Write each table, and the verdicts, as Parquet into a folder; return the files."""
    written = []
    for name, frame in _frames(tables).items():
        written.append(Path(folder) / f"{name}.parquet")
        written[-1].parent.mkdir(parents=True, exist_ok=True)
        mixed = [c for c in frame if frame[c].dtype == object]
        frame.astype(dict.fromkeys(mixed, "str")).to_parquet(written[-1], index=False)
    return written


def _frames(tables: Tables) -> dict[str, pd.DataFrame]:
    frames = {field.name: getattr(tables, field.name) for field in fields(Tables)}
    return frames | {"verdicts": compare.verdicts(tables.verified)}
