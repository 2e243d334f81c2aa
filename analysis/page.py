"""The report page: one self-contained HTML file, the answer first, that needs no network."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
import plotly.offline
import yaml

from analysis import compare, sentences, summary
from analysis.answers import Answer, answers
from analysis.build import constraints
from analysis.figures.style import description
from analysis.findings import findings
from analysis.grid import grid
from analysis.nodes import nodes
from analysis.remarks import remarks
from analysis.results import differs, results
from analysis.sections import Chapter, chapters
from analysis.stored import LATEST
from analysis.tables import Sweep, best_first
from supersnn.records.metrics import COSTS

TEMPLATES = Path(__file__).parent / "templates"
TRIAL_ROWS = 150


def render(sweeps: list[Sweep], margin: float = compare.MARGIN) -> str:
    """Return the report of one or several sweeps as HTML: the answer to each question they ask, then each sweep."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    parts = [_part(sweep, margin, f"s{k}") for k, sweep in enumerate(sweeps)]
    return environment.get_template("report.html.j2").render(
        parts=parts,
        questions=[_question(answer) for answer in answers(sweeps, margin)] if len(sweeps) > 1 else [],
        style=(TEMPLATES / "report.css").read_text(encoding="utf-8"),
        script=(TEMPLATES / "report.js").read_text(encoding="utf-8"),
        plotly=plotly.offline.get_plotlyjs(),
    )


def _question(answer: Answer) -> dict[str, Any]:
    """Return the template's values for one answer."""
    arms = list(dict.fromkeys(arm for sweep in answer.sweeps for arm in sweep.arms))
    verdicts = answer.verdicts
    return {
        "name": answer.name,
        "sweeps": len(answer.sweeps),
        "complete": answer.complete,
        "answer": answer.headline,
        "evidence": _unbroken(sentences.sentence(answer.evidence)),
        "table": grid(summary.table(answer, arms)),
        "searches": (verdicts["unit"] == "search").any(),
        "verdicts": grid(summary.verdict_rows(verdicts)),
        "equal_energy": grid(summary.equal_energy_rows(answer.equal_energy)),
        "one_search": grid(summary.one_search(answer)),
        "components": grid(summary.components(answer)),
        "remarks": [_unbroken(sentence) for sentence in remarks(answer)],
    }


def _part(sweep: Sweep, margin: float, prefix: str) -> dict[str, Any]:
    """Return the template's values for one sweep."""
    answer = answers([sweep], margin)[0]
    values = results(sweep, margin)
    return {
        **_question(answer),
        "prefix": prefix,
        "name": sweep.name,
        "complete": sweep.complete,
        "ended": sweep.ended,
        "findings": [_unbroken(sentence) for sentence in findings(sweep, answer.verdicts)],
        "facts": _facts(sweep, values),
        "arms": grid(_arms(values)),
        "chapters": list(_chapters(sweep, answer.verdicts, margin, prefix)),
        "teachers": grid(_teachers(sweep)),
        "trials": grid(_trials(sweep), TRIAL_ROWS),
        "failures": grid(_failures(sweep.trials)),
        "failed_final_runs": grid(pd.DataFrame(values["failed_final_runs"])),
        "nodes": grid(nodes(sweep)),
        "problems": grid(sweep.problems.drop(columns=["sweep"])),
        "ledger": grid(_ledger(sweep)),
        "config": yaml.safe_dump(dict(sweep.config), sort_keys=False, allow_unicode=True),
        "provenance": _provenance(sweep),
    }  # fmt: skip


def _chapters(sweep: Sweep, verdicts: pd.DataFrame, margin: float, prefix: str) -> Iterator[dict[str, Any]]:
    """Return the chapters of each data set."""
    names = sweep.datasets
    if len(names) < 2:
        yield from (_chapter(chapter, prefix) for chapter in chapters(sweep, verdicts, margin))
        return
    for number, name in enumerate(names):
        own = verdicts[verdicts["dataset"] == name]
        for chapter in chapters(sweep.on(name), own, margin):
            titled = replace(chapter, title=f"{chapter.title} ({name})")
            yield _chapter(titled, f"{prefix}-d{number}")


def _chapter(chapter: Chapter, prefix: str) -> dict[str, Any]:
    pictures = []
    for picture in chapter.pictures:
        data = picture.figure.to_json().replace("<", "\\u003c")
        text = {"title": picture.title, "note": picture.note, "wide": picture.wide, "grid": grid(picture.table)}
        drawn = {"data": data, "description": description(picture.figure), "height": picture.figure.layout.height,
                 "least": picture.least}  # fmt: skip
        pictures.append({"key": f"{prefix}-{picture.key}", **text, **drawn})
    return {"key": f"{prefix}-{chapter.key}", "title": chapter.title, "pictures": pictures}


def _unbroken(text: str) -> str:
    """Keep a number and its percent sign, and p and its value, on one line."""
    return text.replace(" %", "\u00a0%").replace(" p = ", " p\u00a0=\u00a0")


def _arms(values: dict[str, Any]) -> pd.DataFrame:
    skewed = any(differs(row["test_mean"], row["test_iqm"], row["test_se"]) for row in values["arms"].values())
    return pd.DataFrame([
        {"arm": arm, "teacher": str(row["teacher"] or "none"), "trials": row["trials"], "best": row["best_val"],
         **({"searches": row["searches"]} if values["replicates"] > 1 else {}), "final runs": len(row["verified"]),
         "test": row["test_mean"], **({"iqm": row["test_iqm"]} if skewed else {}),
         "95 % interval": sentences.between(row["test_low"], row["test_high"], sentences.percent),
         **{cost.column: row[cost.column] for cost in COSTS},
         "seconds": row["cpu_s"]}
        for arm, row in values["arms"].items()
    ])  # fmt: skip


def _trials(sweep: Sweep) -> pd.DataFrame:
    several = {"dataset": len(sweep.datasets) > 1, "replicate": sweep.replicates > 1}
    where = [name for name, shown in several.items() if shown]
    shown = ["arm", *where, "trial", "state", "value", *(["feasible"] if constraints(sweep.config) else []),
             "epochs", "seconds", "teacher", *(cost.key for cost in COSTS)]  # fmt: skip
    shown += [column for column in sweep.trials.columns if "." in column and column != "teacher.name"]
    known = [column for column in shown if column in sweep.trials]
    return best_first(sweep.trials)[known]


def _teachers(sweep: Sweep) -> pd.DataFrame:
    """Return the teachers, with what each was trained for where some were refitted."""
    teachers = sweep.teachers
    alone = [name for name, several in (("dataset", len(sweep.datasets) > 1), ("replicate", sweep.replicates > 1))
             if not several]  # fmt: skip
    shown = teachers.drop(columns=["sweep", "digest", "split", "refitted", *alone])
    refitted = teachers["refitted"]
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


def _facts(sweep: Sweep, values: dict[str, Any]) -> list[tuple[str, str]]:
    student = (sweep.config.get("student") or {}).get("architecture")
    spent = sum(table["seconds"].sum() for table in (sweep.trials, sweep.ranked, sweep.verified))
    failed = len(values["failed_final_runs"])
    teachers = sweep.teachers["seconds"].sum() + sweep.teachers["bank_seconds"].sum()
    return [
        ("data", ", ".join(values["datasets"]) or "–"),
        ("student", str(student or "–")),
        (
            "trials",
            f"{len(sweep.trials)} in {len(sweep.arms)} arms"
            + (f", {sweep.replicates} replicates" if sweep.replicates > 1 else ""),
        ),
        ("verified", f"{int(sweep.verified['winner'].sum())} fresh seeds" + (f", {failed} failed" if failed else "")),
        ("training", sentences.duration(spent)),
        ("teachers", sentences.duration(teachers)),
        *([("taken", sweep.state.costs.text())] if sweep.state.costs.gpu_hours() else []),
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
