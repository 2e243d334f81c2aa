"""The report page: one self-contained HTML file, the answer first, that needs no network."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
import plotly.offline
import yaml

from analysis import compare, sentences
from analysis.build import constraints
from analysis.figures.style import description
from analysis.findings import findings
from analysis.grid import grid
from analysis.results import answer, differs, results
from analysis.sections import Chapter, chapters
from analysis.stored import LATEST
from analysis.tables import Sweep, best_first, collect, records
from supersnn.records.metrics import COSTS

TEMPLATES = Path(__file__).parent / "templates"
TRIAL_ROWS = 150


def render(sweeps: list[Sweep], margin: float = compare.MARGIN) -> str:
    """Return the report of one or several sweeps as HTML."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    parts = [_part(sweep, margin, f"s{k}") for k, sweep in enumerate(sweeps)]
    return environment.get_template("report.html.j2").render(
        parts=parts,
        across=_across(sweeps, margin) if len(sweeps) > 1 else None,
        style=(TEMPLATES / "report.css").read_text(encoding="utf-8"),
        script=(TEMPLATES / "report.js").read_text(encoding="utf-8"),
        plotly=plotly.offline.get_plotlyjs(),
    )


def _part(sweep: Sweep, margin: float, prefix: str) -> dict[str, Any]:
    """Return the template's values for one sweep."""
    verdicts = compare.verdicts(sweep.verified, margin=margin)
    summary = results(sweep, margin)
    return {
        "prefix": prefix,
        "name": sweep.name,
        "complete": sweep.complete,
        "ended": sweep.ended,
        **_headline(verdicts),
        "findings": [_unbroken(sentence) for sentence in findings(sweep, verdicts)],
        "facts": _facts(sweep, summary),
        "arms": grid(_arms(summary)),
        "verdicts": grid(_verdicts(verdicts)),
        "chapters": [_chapter(chapter, prefix) for chapter in chapters(sweep, verdicts, margin)],
        "teachers": grid(_teachers(sweep.teachers)),
        "trials": grid(_trials(sweep), TRIAL_ROWS),
        "failures": grid(_failures(sweep.trials)),
        "failed_final_runs": grid(pd.DataFrame(summary["failed_final_runs"])),
        "problems": grid(sweep.problems.drop(columns=["sweep"])),
        "ledger": grid(_ledger(sweep)),
        "config": yaml.safe_dump(dict(sweep.config), sort_keys=False, allow_unicode=True),
        "provenance": _provenance(sweep),
    }  # fmt: skip


def _chapter(chapter: Chapter, prefix: str) -> dict[str, Any]:
    pictures = []
    for picture in chapter.pictures:
        data = picture.figure.to_json().replace("<", "\\u003c")
        text = {"title": picture.title, "note": picture.note, "wide": picture.wide, "grid": grid(picture.table)}
        drawn = {"data": data, "description": description(picture.figure), "height": picture.figure.layout.height,
                 "least": picture.least}  # fmt: skip
        pictures.append({"key": f"{prefix}-{picture.key}", **text, **drawn})
    return {"key": f"{prefix}-{chapter.key}", "title": chapter.title, "pictures": pictures}


def _headline(verdicts: pd.DataFrame) -> dict[str, str]:
    """Return the answer as a claim and its evidence."""
    rows = [row for row in records(verdicts) if row["n"]]
    if not rows:
        return {"answer": answer(verdicts), "evidence": ""}
    evidence = f"{sentences.evidence(rows[0])}; {sentences.scope(rows[0])}"
    return {"answer": sentences.claim(rows[0]) + ".", "evidence": _unbroken(evidence[:1].upper() + evidence[1:] + ".")}


def _unbroken(text: str) -> str:
    """Keep a number and its percent sign, and p and its value, on one line."""
    return text.replace(" %", "\u00a0%").replace(" p = ", " p\u00a0=\u00a0")


def _arms(summary: dict[str, Any]) -> pd.DataFrame:
    skewed = any(differs(row["test_mean"], row["test_iqm"], row["test_se"]) for row in summary["arms"].values())
    return pd.DataFrame([
        {"arm": arm, "teacher": str(row["teacher"] or "none"), "trials": row["trials"], "best": row["best_val"],
         "seeds": len(row["verified"]), "test": row["test_mean"], **({"iqm": row["test_iqm"]} if skewed else {}),
         "95 % interval": sentences.between(row["test_low"], row["test_high"], sentences.percent),
         **{cost.column: row[cost.column] for cost in COSTS},
         "seconds": row["cpu_s"]}
        for arm, row in summary["arms"].items()
    ])  # fmt: skip


def _verdicts(verdicts: pd.DataFrame, sweeps: int = 1) -> pd.DataFrame:
    """Return the verdicts as shown; of several sweeps, with how many of them have each comparison."""
    rows = records(verdicts)
    skewed = any(differs(row["difference"], row["iqm"], row["se"]) for row in rows)
    return pd.DataFrame([
        {"comparison": f"{row['a']} − {row['b']}", **({"sweeps": f"{row['blocks']} of {sweeps}"} if sweeps > 1 else {}),
         "difference": row["difference"], **({"iqm_points": row["iqm"]} if skewed else {}),
         "95 % interval": sentences.between(row["low"], row["high"], sentences.signed), "p": row["p"],
         "prob_improvement": row["prob_improvement"], "pairs": row["n"], "verdict": row["verdict"]}
        for row in rows
    ])  # fmt: skip


def _trials(sweep: Sweep) -> pd.DataFrame:
    shown = ["arm", "trial", "state", "value", *(["feasible"] if constraints(sweep.config) else []),
             "epochs", "seconds", "teacher", *(cost.key for cost in COSTS)]  # fmt: skip
    shown += [column for column in sweep.trials.columns if "." in column and column != "teacher.name"]
    known = [column for column in shown if column in sweep.trials]
    return best_first(sweep.trials)[known]


def _teachers(teachers: pd.DataFrame) -> pd.DataFrame:
    """Return the teachers, with what each was trained for where some were refitted."""
    shown, refitted = teachers.drop(columns=["sweep", "digest", "split", "refitted"]), teachers["refitted"]
    if not refitted.any():
        return shown
    return shown.assign(trained_for=refitted.map({False: "the search", True: "the final runs"}))


def _failures(trials: pd.DataFrame) -> pd.DataFrame:
    """Return each arm's reasons of failure and how often they occurred."""
    groups = trials[trials["state"] == "failed"].fillna({"reason": "unknown"}).groupby(["arm", "reason"], sort=False)
    rows = [{"arm": arm, "reason": reason, "trials": len(part), "first trial": part["trial"].iloc[0],
             "most epochs": int(part["epochs"].max())} for (arm, reason), part in groups]  # fmt: skip
    return pd.DataFrame(rows)


def _ledger(sweep: Sweep) -> pd.DataFrame:
    table = sweep.ledger.drop(columns=["sweep"])
    if "weights" in table:  # a SHA-256, whose beginning identifies them
        table["weights"] = [value[:12] if isinstance(value, str) else None for value in table["weights"]]
    return table.assign(time=[_moment(value) for value in table["time"]])


def _facts(sweep: Sweep, summary: dict[str, Any]) -> list[tuple[str, str]]:
    student = (sweep.config.get("student") or {}).get("architecture")
    spent = sum(table["seconds"].sum() for table in (sweep.trials, sweep.ranked, sweep.verified))
    failed = len(summary["failed_final_runs"])
    teachers = sweep.teachers["seconds"].sum() + sweep.teachers["bank_seconds"].sum()
    return [
        ("data", str(summary["dataset"] or "–")),
        ("student", str(student or "–")),
        ("trials", f"{len(sweep.trials)} in {len(sweep.arms)} arms"),
        ("verified", f"{int(sweep.verified['winner'].sum())} fresh seeds" + (f", {failed} failed" if failed else "")),
        ("training", sentences.duration(spent)),
        ("teachers", sentences.duration(teachers)),
    ]


def _provenance(sweep: Sweep) -> list[tuple[str, str]]:
    about = sweep.provenance
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    return [
        ("state", "done" if sweep.complete else f"so far: {sweep.ended or 'running (or interrupted)'}"),
        ("started", _moment(about["started"])),
        ("last event", _moment(about["updated"])),
        ("drivers", str(about["drivers"])),
        ("code", str(about["code"] or "–")),
        ("versions", versions or "–"),
        ("split", str(about["split"] or "–")),
        ("images", ", ".join(f"{count} {part}" for part, count in about["images"].items()) or "–"),
    ]


def _moment(seconds: float | None) -> str:
    if seconds is None or pd.isna(seconds):
        return "–"
    return datetime.fromtimestamp(min(float(seconds), LATEST), UTC).strftime("%Y-%m-%d %H:%M UTC")


def _across(sweeps: list[Sweep], margin: float) -> dict[str, Any]:
    """Return the verdicts over all sweeps: each sweep is a block, paired by seed within it."""
    tables = collect(sweeps)
    verdicts = compare.verdicts(tables.verified, margin=margin)
    return {
        **_headline(verdicts),
        "verdicts": grid(_verdicts(verdicts, len(sweeps))),
        "complete": all(sweep.complete for sweep in sweeps),
    }
