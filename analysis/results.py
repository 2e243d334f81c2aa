"""A sweep's results as plain values for `report --json`, the rows of its printed tables, and the answer in words."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis import budget, compare, steered
from analysis.answers import Answer, answers
from analysis.findings import cautions, failed_final_runs
from analysis.nodes import nodes
from analysis.remarks import remarks
from analysis.sentences import between, counted, metric_text, percent, sentence, signed, unbroken
from analysis.tables import Sweep, records
from analysis.units import OVERALL
from supersnn.records.metrics import COSTS, ENERGY
from supersnn.records.pairing import Pairing, family, pairing

SUMMARY = ("dataset", "arm", "unit", "searches", "runs", "mean", "low", "high", "sd", "se", "iqm")
"""The columns of `analysis.compare.arms` in the results."""
STATES = ("finished", "stopped", "failed", "running")


def results(sweep: Sweep, margin: float = compare.MARGIN) -> dict[str, Any]:
    """Return the sweep's results as JSON values: unknown ones are None, accuracies are fractions.

    `gpu_s` and `cpu_s` are the arm's own trainings: search, ranking and verification; `teacher_s` is the additional
    cost of its teachers and their caches, refitted ones included. `cautions` are sentences to read with the numbers;
    `cost` are the hours of slots and GPUs, with teachers and final runs, `nodes` what each node trained and how fast.
    `problem_lines` are the `problems` that the page lists. `requests` are what people asked for while the sweep ran,
    and `given` is how many trials of an arm have values of theirs.
    """
    answer = answers([sweep], margin)[0]
    verdicts = answer.verdicts
    costs = {str(row["arm"]): row for row in records(budget.costs(sweep))}
    values: dict[str, Any] = _plain({
        "sweep": sweep.name,
        "complete": sweep.complete,
        "ended": sweep.ended,
        "dataset": sweep.datasets[0] if sweep.datasets else None,
        "datasets": sweep.datasets,
        "replicates": sweep.replicates,
        "arms": {arm: _arm(sweep, arm, answer.arms, costs.get(arm, {})) for arm in sweep.arms},
        "arms_by_dataset": [{key: row[key] for key in SUMMARY} for row in records(answer.arms)],
        **said(answer),
        "margin": margin,
        "cautions": cautions(sweep, verdicts),
        "failed_final_runs": failed_final_runs(sweep),
        "cost": sweep.state.costs.row(),
        "nodes": records(nodes(sweep)),
        "requests": steered.requests(sweep),
        "problems": len(sweep.problems),
        "problem_lines": [_problem_line(row) for row in records(sweep.problems)],
        "provenance": dict(sweep.provenance),
    })  # fmt: skip
    return values


def pooled(sweeps: Sequence[Sweep], margin: float = compare.MARGIN) -> list[dict[str, Any]]:
    """Return what several sweeps say together, for each question that more than one of them asks; see `said`."""
    return [said(answer) for answer in answers(sweeps, margin) if len(answer.sweeps) + len(answer.copies) > 1]


def said(answer: Answer) -> dict[str, Any]:
    """Return what an answer says, as JSON values: its `sweeps`, `headline`, `verdicts`, and sentences about them.

    `evidence` is the headline's, `answer` the first verdict with its own, in one sentence.
    """
    values: dict[str, Any] = _plain({
        "sweeps": [sweep.name for sweep in answer.sweeps],
        "headline": answer.headline,
        "evidence": sentence(answer.evidence),
        "answer": answer.sentence,
        "verdicts": records(answer.verdicts),
        "equal_energy": records(answer.equal_energy),
        "one_search": records(answer.one_search),
        "components": records(answer.components.drop(columns="question")),
        "remarks": remarks(answer),
    })  # fmt: skip
    return values


def _problem_line(row: Mapping[str, Any]) -> str:
    trial = "" if pd.isna(row["trial"]) else f"/{row['trial']:.0f}"
    return row["problem"] if pd.isna(row["arm"]) else f"{row['arm']}{trial}: {row['problem']}"


def _arm(sweep: Sweep, arm: str, summaries: pd.DataFrame, cost: Mapping[str, Any]) -> dict[str, Any]:
    """Return an arm's results; over several data sets its means are those of the data sets' means."""
    own = summaries[summaries["arm"] == arm]
    summary = records(own)[0] if len(own) == 1 else {
        "mean": own["mean"].mean() if len(own) else None, "shrinkage": own["shrinkage"].mean() if len(own) else None,
    }  # fmt: skip
    trials = sweep.trials[sweep.trials["arm"] == arm]
    verified = sweep.verified[(sweep.verified["arm"] == arm) & sweep.verified["winner"]]
    counts = trials["state"].value_counts()
    best = trials[trials["best"]]
    winner = trials[trials["winner"]] if trials["winner"].any() else best
    spent = sum(cost.get(part, 0.0) for part in ("search", "ranking", "verify"))
    resources = sweep.config.get("resources") or {}
    known = {column: _first(winner, column) for column in ("student", "teacher", "pairing")}
    known["pairing"] = known["pairing"] or _described_pairing(sweep.config, arm)
    known["trial"] = _first(winner, "trial") if len(winner) == 1 else None
    teacher = sweep.teachers[(sweep.teachers["name"] == known["teacher"]) & ~sweep.teachers["refitted"]]
    return {
        "trials": len(trials),
        "given": steered.favoured(sweep).get(arm, 0),
        **{state: int(counts.get(state, 0)) for state in STATES},
        "best_val": best["value"].max() if len(best) else None,
        "verified": records(verified[["seed", "val", "test", *_more(sweep)]]),
        "searches": int(own["searches"].sum()),
        "test_mean": summary.get("mean"),
        "test_sd": summary.get("sd"),
        "test_low": summary.get("low"),
        "test_high": summary.get("high"),
        "test_se": summary.get("se"),
        "test_iqm": summary.get("iqm"),
        "shrinkage": summary.get("shrinkage") if sweep.held_out else None,
        **{cost.column: verified[cost.column].mean() if verified[cost.column].notna().any()
           else _first(winner, cost.key) for cost in COSTS},
        **known,
        "teacher_val": _first(teacher, "val_accuracy"),
        "teacher_parameters": _first(teacher, "parameters"),
        "gpu_s": spent * _gpus(trials, resources),
        "cpu_s": spent * float(resources.get("cpus", 1) or 0),
        "teacher_s": cost.get("teacher", 0.0) + cost.get("refit", 0.0),
    }  # fmt: skip


def _gpus(trials: pd.DataFrame, resources: Mapping[str, Any]) -> float:
    """Return the GPUs that an arm's trainings took on average: by its trials, else by the sweep's description."""
    if trials["gpus"].notna().any():
        return float(trials["gpus"].mean())
    gpus = resources.get("gpus") or 0
    return 0.0 if gpus == "auto" else float(gpus)


def _more(sweep: Sweep) -> list[str]:
    """Return the columns that tell the searches of an arm apart, where it has several."""
    return [name for name, several in (("dataset", len(sweep.datasets) > 1), ("replicate", sweep.replicates > 1))
            if several]  # fmt: skip


def _described_pairing(config: Mapping[str, Any], arm: str) -> Pairing | None:
    """Return an arm's kind of pairing by the sweep file, None where it has several, or the file does not say."""
    try:
        described = config["arms"][arm]
        students = [family(one) for one in described.get("students") or [config["student"]["architecture"]]]
        teachers = [None if one is None else family(one) for one in described.get("teachers") or [None]]
    except (LookupError, TypeError, AttributeError):  # a damaged file: the sweep's problems have it
        return None
    kinds = {pairing(student, teacher) for student in students for teacher in teachers}
    return kinds.pop() if len(kinds) == 1 else None


def table(results: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the arms of `results` as rows of a printed table, narrow enough for a terminal: heading → text.

    The interquartile mean has a column where it is far from an arm's mean.
    """
    rows = []
    skewed = any(differs(arm["test_mean"], arm["test_iqm"], arm["test_se"]) for arm in results["arms"].values())
    for name, arm in results["arms"].items():
        spread = "" if arm["test_sd"] is None else f" ± {percent(arm['test_sd'])}"
        rows.append({
            "arm": f"{name} *" if arm["given"] else name,
            "teacher": arm["teacher"] or "–",
            "trials": str(arm["trials"]),
            "best\nval %": percent(arm["best_val"]),
            "test %\n± sd": percent(arm["test_mean"]) + spread,
            **({"IQM\n%": percent(arm["test_iqm"])} if skewed else {}),
            **{_narrow(cost.column): metric_text(cost, arm[cost.column]) for cost in COSTS},
        })  # fmt: skip
    return rows


def _narrow(column: str) -> str:
    """Return a metric's column as a heading of several lines, as energy, nJ."""
    return column.replace("_nj", "_nJ").replace("_", "\n")


def verdict_tables(results: Mapping[str, Any]) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """Yield the verdicts of `results` on each data set as a title and the rows of a printed table: heading → text.

    What all rows rest on is in the title.
    """
    verdicts = results["verdicts"]
    skewed = any(differs(row["difference"], row["iqm"], row["se"]) for row in verdicts)
    names = dict.fromkeys(row["dataset"] for row in verdicts)
    for name in names:
        own = [row for row in verdicts if row["dataset"] == name]
        rests = {counted(row) for row in own}
        of = "all data sets" if name == OVERALL else name
        yield (
            ", ".join([*([of] if len(names) > 1 else []), *(rests if len(rests) == 1 else [])]),
            [
                {
                    "comparison": f"{row['a']} − {row['b']}",
                    "points": signed(row["difference"]),
                    **({"IQM": signed(row["iqm"])} if skewed else {}),
                    "95 % interval": unbroken(between(row["low"], row["high"], signed)),
                    "p (Holm)": "–" if row["p"] is None else f"{row['p']:.3g}",
                    **({"rests on": counted(row)} if len(rests) > 1 else {}),
                    "verdict": row["verdict"],
                }
                for row in own
            ],
        )


def equal_energy_table(results: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the verdicts at equal energy of `results` as rows of a printed table: heading → text."""
    rows = results["equal_energy"]
    several = len({row["dataset"] for row in rows}) > 1
    return [
        {
            **({"data": row["dataset"]} if several else {}),
            "comparison": f"{row['a']} − {row['b']}",
            "at nJ": metric_text(ENERGY, row["energy_nj"]),
            "by": row["rule"],
            "points": signed(row["difference"]),
            "95 % interval": between(row["low"], row["high"], signed),
            "p": "–" if row["p"] is None else f"{row['p']:.3g}",
            "verdict": row["verdict"],
        }
        for row in rows
    ]


def differs(mean: float | None, middle: float | None, error: float | None) -> bool:
    """Return `compare.uneven` of plain values, of which None is not known."""
    return not (mean is None or middle is None or error is None) and compare.uneven(mean, middle, error)


def _first(frame: pd.DataFrame, column: str) -> Any:
    return frame[column].iloc[0] if column in frame and len(frame) else None


def _plain(value: Any) -> Any:
    """Return the value with NumPy scalars converted and NaN and infinity replaced by None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return None if value is pd.NA or value is pd.NaT else value
