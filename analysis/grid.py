"""A table of the page: headings, numbers in their units, and each cell's sort key."""

from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from analysis import sentences
from analysis.tables import records
from supersnn.records.metrics import METRICS

ROWS = 60
"""Rows shown of a figure's data; the CSV has all of them."""
METRIC_COLUMNS = METRICS | {metric.column: metric for metric in METRICS.values()}
"""Metrics by key and by column."""
PERCENT = {"value", "best", "search_value", "score", "spread", "direct", "expected", "median", "mean", "low", "high",
           "importance", "chance", "iqm", "sd", "se", "teacher_val", "val_accuracy"}  # fmt: skip
POINTS = {"difference", "gain", "shrinkage", "iqm_points", "without_far"}
SECONDS = {"seconds", "compute", "teacher_seconds", "bank_seconds", "search", "verify", "total"}
HEADINGS = {
    "value": "validation, %", "best": "best val., %", "low": "low, %", "high": "high, %",
    "val_accuracy": "validation, %", "seconds": "training", "bank_seconds": "cache",
    "difference": "difference, points", "gain": "gain, points", "importance": "importance, %", "chance": "chance, %",
    "p": "p (Holm)", "prob_improvement": "P(better)", "p_raw": "p, raw", "p_floor": "smallest p",
    "expected": "expected, %", "rate": "firing rate", "iqm": "IQM, %", "iqm_points": "IQM, points",
    "se": "standard error, %",
} | {column: sentences.heading(metric) for column, metric in METRIC_COLUMNS.items()}  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """A table's cell: its text, its sort key, and whether it is a number."""

    text: str
    key: str
    numeric: bool


@dataclass(frozen=True)
class Grid:
    """A table as shown; `hidden` counts the rows that the page leaves out."""

    headings: list[str]
    rows: list[list[Cell]]
    hidden: int = 0


def grid(frame: pd.DataFrame, most: int = ROWS) -> Grid:
    """Return the first rows of a table as shown."""
    columns = [str(column) for column in frame.columns]
    rows = [[_cell(column, row[column]) for column in columns] for row in records(frame.head(most))]
    numeric = {k for row in rows for k, cell in enumerate(row) if cell.numeric}
    rows = [
        [replace(cell, numeric=k in numeric) if not cell.key else cell for k, cell in enumerate(row)] for row in rows
    ]
    return Grid([HEADINGS.get(column, column.replace("_", " ")) for column in columns], rows, max(0, len(frame) - most))


def _cell(column: str, value: Any) -> Cell:
    if isinstance(value, bool):
        return Cell("yes" if value else "no", str(int(value)), False)
    if value is None or value is pd.NA or (isinstance(value, float) and pd.isna(value)):
        return Cell("–", "", False)
    if not isinstance(value, int | float):
        return Cell(str(value), str(value), False)
    if column in METRIC_COLUMNS:
        text = sentences.metric_text(METRIC_COLUMNS[column], value)
    elif column in PERCENT:
        text = sentences.percent(value)
    elif column in POINTS:
        text = sentences.signed(value)
    elif column in SECONDS or (column == "teacher" and isinstance(value, float)):
        text = sentences.duration(value)
    else:
        text = str(value) if isinstance(value, int) else sentences.number(value)
    return Cell(text, repr(float(value)), True)
