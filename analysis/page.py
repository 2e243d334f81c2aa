"""The page: one HTML file with everything in it, which a reader understands from the top and which needs no network."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
import plotly.offline
import yaml

from analysis import compare, sentences
from analysis.figures.style import description
from analysis.findings import findings
from analysis.grid import grid
from analysis.results import answer, results
from analysis.sections import Chapter, chapters
from analysis.tables import Sweep, collect, records

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
    """What the template shows of one sweep."""
    verdicts = compare.verdicts(sweep.verified, margin=margin)
    told = results(sweep, margin)
    return {
        "prefix": prefix,
        "name": sweep.name,
        "complete": sweep.complete,
        "ended": sweep.ended,
        **_headline(verdicts),
        "findings": [_unbroken(sentence) for sentence in findings(sweep, verdicts)],
        "facts": _facts(sweep, told),
        "arms": grid(_arms(told)),
        "verdicts": grid(_verdicts(verdicts)),
        "chapters": [_chapter(chapter, prefix) for chapter in chapters(sweep, verdicts, margin)],
        "teachers": grid(_teachers(sweep.teachers)),
        "trials": grid(_trials(sweep), TRIAL_ROWS),
        "failures": grid(_failures(sweep.trials)),
        "problems": grid(sweep.problems.drop(columns=["sweep"])),
        "ledger": grid(_ledger(sweep)),
        "config": yaml.safe_dump(dict(sweep.config), sort_keys=False, allow_unicode=True),
        "provenance": _provenance(sweep),
    }  # fmt: skip


def _chapter(chapter: Chapter, prefix: str) -> dict[str, Any]:
    pictures = []
    for picture in chapter.pictures:
        data = picture.figure.to_json().replace("<", "\\u003c")
        told = {"title": picture.title, "note": picture.note, "wide": picture.wide, "grid": grid(picture.table)}
        drawn = {"data": data, "description": description(picture.figure), "height": picture.figure.layout.height,
                 "least": picture.least}  # fmt: skip
        pictures.append({"key": f"{prefix}-{picture.key}", **told, **drawn})
    return {"key": f"{prefix}-{chapter.key}", "title": chapter.title, "pictures": pictures}


def _headline(verdicts: pd.DataFrame) -> dict[str, str]:
    """The answer, as a claim and what it rests on."""
    told = [row for row in records(verdicts) if row["n"]]
    if not told:
        return {"answer": answer(verdicts), "evidence": ""}
    resting = sentences.evidence(told[0])
    return {"answer": sentences.claim(told[0]) + ".", "evidence": _unbroken(resting[:1].upper() + resting[1:] + ".")}


def _unbroken(text: str) -> str:
    """Keep a number and its per cent sign on one line."""
    return text.replace(" %", "\u00a0%")


def _arms(told: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame([
        {"arm": arm, "teacher": str(row["teacher"] or "none"), "trials": row["trials"], "best": row["best_val"],
         "seeds": len(row["verified"]), "test": row["test_mean"],
         "95 % interval": sentences.between(row["test_low"], row["test_high"], sentences.percent),
         "spike_rate": row["spike_rate"], "synaptic_ops": row["synaptic_ops"], "energy_nj": row["energy_nj"],
         "seconds": row["cpu_s"]}
        for arm, row in told["arms"].items()
    ])  # fmt: skip


def _verdicts(verdicts: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame([
        {"comparison": f"{row['a']} − {row['b']}", "difference": row["difference"],
         "95 % interval": sentences.between(row["low"], row["high"], sentences.signed), "p": row["p"],
         "prob_improvement": row["prob_improvement"], "pairs": row["n"], "verdict": row["verdict"]}
        for row in records(verdicts)
    ])  # fmt: skip


def _trials(sweep: Sweep) -> pd.DataFrame:
    shown = [
        "arm",
        "trial",
        "state",
        "value",
        "epochs",
        "seconds",
        "teacher",
        "spikes/rate",
        "ops/synaptic",
        "energy/nj",
    ]
    shown += [column for column in sweep.trials.columns if "." in column and column != "teacher.name"]
    known = [column for column in shown if column in sweep.trials]
    return sweep.trials.sort_values("value", ascending=False, na_position="last")[known]


def _teachers(teachers: pd.DataFrame) -> pd.DataFrame:
    """The teachers, with what they were fitted for where that differs."""
    shown = teachers.drop(columns=["sweep", "digest", "split", "again"])
    again = teachers["again"]
    return shown.assign(fitted=again.map({False: "for the search", True: "for the end"})) if again.any() else shown


def _failures(trials: pd.DataFrame) -> pd.DataFrame:
    """Why trials failed: each arm's reasons, how often, and in which trials."""
    groups = trials[trials["state"] == "failed"].fillna({"reason": "unknown"}).groupby(["arm", "reason"], sort=False)
    rows = [{"arm": arm, "reason": reason, "trials": len(part), "first of them": part["trial"].iloc[0],
             "epochs, at most": int(part["epochs"].max())} for (arm, reason), part in groups]  # fmt: skip
    return pd.DataFrame(rows)


def _ledger(sweep: Sweep) -> pd.DataFrame:
    table = sweep.ledger.drop(columns=["sweep"])
    if "weights" in table:  # a SHA-256, of which the beginning tells weights apart
        table["weights"] = [value[:12] if isinstance(value, str) else None for value in table["weights"]]
    return table.assign(time=[_moment(value) for value in table["time"]])


def _facts(sweep: Sweep, told: dict[str, Any]) -> list[tuple[str, str]]:
    student = (sweep.config.get("student") or {}).get("architecture")
    spent = sum(table["seconds"].sum() for table in (sweep.trials, sweep.ranked, sweep.verified))
    teachers = sweep.teachers["seconds"].sum() + sweep.teachers["bank_seconds"].sum()
    return [
        ("data", str(told["dataset"] or "–")),
        ("student", str(student or "–")),
        ("trials", f"{len(sweep.trials)} in {len(sweep.arms)} arms"),
        ("verified", f"{int(sweep.verified['winner'].sum())} fresh seeds"),
        ("training", sentences.duration(spent)),
        ("teachers", sentences.duration(teachers)),
    ]


def _provenance(sweep: Sweep) -> list[tuple[str, str]]:
    about = sweep.provenance
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    return [
        ("state", "done" if sweep.complete else f"so far: {sweep.ended or 'a driver is at work, or died'}"),
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
    return datetime.fromtimestamp(float(seconds), UTC).strftime("%Y-%m-%d %H:%M UTC")


def _across(sweeps: list[Sweep], margin: float) -> dict[str, Any]:
    """What holds over all sweeps: each a block, paired by seed within it."""
    tables = collect(sweeps)
    verdicts = compare.verdicts(tables.verified, margin=margin)
    return {
        **_headline(verdicts),
        "verdicts": grid(_verdicts(verdicts)),
        "complete": all(sweep.complete for sweep in sweeps),
    }
