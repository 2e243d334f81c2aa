"""A table as the page shows it: headings a reader knows, numbers in their units, and what each cell is sorted by."""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis import sentences
from analysis.tables import records

ROWS = 60
"""Rows shown of the data behind a figure; all of them are in the CSV."""
PERCENT = {"value", "best", "val", "test", "search_value", "score", "spread", "direct", "expected", "median", "mean",
           "low", "high", "importance", "chance", "iqm", "sd", "rate", "spike_rate", "spikes/rate", "val/accuracy",
           "teacher_val", "val_accuracy"}  # fmt: skip
POINTS = {"difference", "gain", "shrinkage"}
SECONDS = {"seconds", "compute", "teacher_seconds", "bank_seconds", "search", "verify", "total"}
NANOJOULES = {"energy_nj", "energy/nj"}
HEADINGS = {
    "value": "validation, %", "best": "best val., %", "val": "validation, %", "test": "test, %", "low": "low, %",
    "high": "high, %", "val_accuracy": "validation, %", "seconds": "training", "bank_seconds": "bank",
    "difference": "difference, points", "gain": "gain, points", "importance": "importance, %", "chance": "chance, %",
    "spikes/rate": "spike rate, %", "spike_rate": "spike rate, %", "ops/synaptic": "synaptic ops", "rate": "rate, %",
    "synaptic_ops": "synaptic ops", "energy_nj": "energy, µJ", "energy/nj": "energy, µJ", "p": "p (Holm)",
    "prob_improvement": "P(better)", "p_raw": "p, raw", "p_floor": "smallest p", "expected": "expected, %",
}  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """A table's cell: what is read, what it is sorted by, and whether it is a number."""

    text: str
    key: str
    numeric: bool


@dataclass(frozen=True)
class Grid:
    """A table as it is shown; `hidden` rows are left out of the page."""

    headings: list[str]
    rows: list[list[Cell]]
    hidden: int = 0


def grid(frame: pd.DataFrame, most: int = ROWS) -> Grid:
    """Return the first rows of a table as they are shown."""
    columns = [str(column) for column in frame.columns]
    rows = [[_cell(column, row[column]) for column in columns] for row in records(frame.head(most))]
    return Grid([HEADINGS.get(column, column.replace("_", " ")) for column in columns], rows, max(0, len(frame) - most))


def _cell(column: str, value: Any) -> Cell:
    if isinstance(value, bool):
        return Cell("yes" if value else "no", str(int(value)), False)
    if value is None or value is pd.NA or (isinstance(value, float) and pd.isna(value)):
        return Cell("–", "", False)
    if not isinstance(value, int | float):
        return Cell(str(value), str(value), False)
    if column in PERCENT:
        text = sentences.percent(value)
    elif column in POINTS:
        text = sentences.signed(value)
    elif column in SECONDS or (column == "teacher" and isinstance(value, float)):
        text = sentences.duration(value)
    elif column in NANOJOULES:
        text = sentences.number(value / 1000)
    else:
        text = str(value) if isinstance(value, int) else sentences.number(value)
    return Cell(text, repr(float(value)), True)
