"""The answer of a sweep as MLflow shows it: a note with the table of arms and gains, metrics, and the report page."""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analysis import load, report, summary
from analysis.answers import Answer, answers
from analysis.tables import records

LONGEST = 4900
"""Characters of a note: MLflow's tags hold 5,000."""
SHOWN = ("difference", "low", "high", "p", "image_se")
"""The columns of a verdict that are metrics."""


@dataclass(frozen=True)
class Verdicts:
    """What is said of a sweep: its `note` in Markdown, its verdicts as `metrics`, and its report `page`."""

    note: str
    metrics: dict[str, float]
    page: Path


def verdicts_of(folder: Path) -> Verdicts:
    """Return what the files in a sweep's folder say; its page is written if it is older than its journal.

    Raises:
        UserError: the folder holds no sweep, or the page cannot be written.
    """
    sweep = load.sweep(folder)
    page = folder / "report.html"
    if not report.up_to_date(folder):
        report.write_html([sweep], page)
    answer = answers([sweep])[0]
    return Verdicts(_note(answer, sweep.arms), dict(_metrics(answer)), page)


def _note(answer: Answer, arms: Sequence[str]) -> str:
    """Return the headline, its evidence, and the tables, as many as a tag holds."""
    parts = [f"**{answer.headline}**", answer.evidence, _markdown(summary.table(answer, list(arms))),
             _markdown(summary.verdict_rows(answer.verdicts).drop(columns="difference", errors="ignore"))]  # fmt: skip
    kept = ""
    for part in filter(None, parts):
        longer = f"{kept}\n\n{part}" if kept else part
        if len(longer) > LONGEST:
            break
        kept = longer
    return kept or answer.headline[:LONGEST]


def _markdown(table: pd.DataFrame) -> str:
    if table.empty:
        return ""
    lines = [" | ".join(map(str, table.columns)), " | ".join("---" for _ in table.columns)]
    lines += [" | ".join(_text(value) for value in row.values()) for row in records(table)]
    return "\n".join(f"| {line} |" for line in lines)


def _text(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value).replace("|", "/")


def _metrics(answer: Answer) -> Iterator[tuple[str, float]]:
    """Yield the verdicts, as ``verdict/A-B/difference``, of several data sets as ``verdict/DATASET/A-B/difference``."""
    rows = [row for row in records(answer.verdicts) if row["n"]]
    several = len({row["dataset"] for row in rows}) > 1
    for row in rows:
        where = f"{row['dataset']}/" if several else ""
        name = re.sub(r"[^A-Za-z0-9_./ -]", "_", f"verdict/{where}{row['a']}-{row['b']}")
        for column in SHOWN:
            if math.isfinite(row[column]):
                yield f"{name}/{column}", float(row[column])
