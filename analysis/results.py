"""A sweep's results as plain values: what `report --json` prints, the rows of its table, and the answer in words."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from analysis import budget, compare
from analysis.sentences import answer_to, between, number, percent, signed
from analysis.tables import Sweep, records

STATES = ("finished", "stopped", "failed", "running")


def results(sweep: Sweep, margin: float = compare.MARGIN) -> dict[str, Any]:
    """Return the sweep's results, fit for JSON: what is unknown is None, accuracies are fractions.

    `gpu_s` and `cpu_s` are the arm's own trainings, searched, ranked and verified; `teacher_s` is what its teachers and
    their banks cost besides, those fitted anew among them.
    """
    judged = compare.verdicts(sweep.verified, margin=margin)
    summaries = {str(row["arm"]): row for row in records(compare.arms(sweep.verified))}
    costs = {str(row["arm"]): row for row in records(budget.costs(sweep))}
    told: dict[str, Any] = _plain({
        "sweep": sweep.name,
        "complete": sweep.complete,
        "ended": sweep.ended,
        "dataset": (sweep.config.get("dataset") or {}).get("name"),
        "arms": {arm: _arm(sweep, arm, summaries.get(arm, {}), costs.get(arm, {})) for arm in sweep.arms},
        "verdicts": records(judged),
        "answer": answer(judged),
        "margin": margin,
        "problems": len(sweep.problems),
        "provenance": dict(sweep.provenance),
    })  # fmt: skip
    return told


def _arm(sweep: Sweep, arm: str, summary: Mapping[str, Any], cost: Mapping[str, Any]) -> dict[str, Any]:
    trials = sweep.trials[sweep.trials["arm"] == arm]
    verified = sweep.verified[(sweep.verified["arm"] == arm) & sweep.verified["winner"]]
    counts = trials["state"].value_counts()
    best = trials.loc[trials["state"] == "finished"].sort_values("value", ascending=False, na_position="last").head(1)
    winner = trials[trials["winner"]].head(1) if trials["winner"].any() else best
    spent = sum(cost.get(part, 0.0) for part in ("search", "ranking", "verify"))
    resources = sweep.config.get("resources") or {}
    known = {column: _first(winner, column) for column in ("student", "teacher", "pairing", "trial")}
    teacher = sweep.teachers[(sweep.teachers["name"] == known["teacher"]) & ~sweep.teachers["again"]]
    spiking = {"spike_rate": "spikes/rate", "synaptic_ops": "ops/synaptic", "energy_nj": "energy/nj"}
    return {
        "trials": len(trials),
        **{state: int(counts.get(state, 0)) for state in STATES},
        "best_val": _first(best, "value"),
        "verified": records(verified[["seed", "val", "test"]]),
        "test_mean": summary.get("mean"),
        "test_sd": summary.get("sd"),
        "test_low": summary.get("low"),
        "test_high": summary.get("high"),
        "test_iqm": summary.get("iqm"),
        "shrinkage": summary.get("shrinkage") if sweep.held_out else None,
        **{short: verified[short].mean() if verified[short].notna().any() else _first(winner, metric)
           for short, metric in spiking.items()},
        **known,
        "teacher_val": _first(teacher, "val_accuracy"),
        "teacher_parameters": _first(teacher, "parameters"),
        "gpu_s": spent * float(resources.get("gpus") or 0),
        "cpu_s": spent * float(resources.get("cpus", 1) or 0),
        "teacher_s": cost.get("teacher", 0.0) + cost.get("refit", 0.0),
    }  # fmt: skip


def table(results: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the arms of `results` as rows of a printed table: heading → text."""
    found = []
    for arm, told in results["arms"].items():
        spread = "" if told["test_sd"] is None else f" ± {percent(told['test_sd'])}"
        found.append(
            {
                "arm": arm,
                "teacher": told["teacher"] or "–",
                "trials": str(told["trials"]),
                "best val %": percent(told["best_val"]),
                "test % ± sd": percent(told["test_mean"]) + spread,
                "spike rate": number(told["spike_rate"]),
                "energy nJ": number(told["energy_nj"]),
            }
        )
    return found


def verdict_table(results: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the verdicts of `results` as rows of a printed table: heading → text."""
    return [
        {
            "comparison": f"{told['a']} − {told['b']}",
            "points": signed(told["difference"]),
            "95 % interval": between(told["low"], told["high"], signed),
            "p (Holm)": "–" if told["p"] is None else f"{told['p']:.3g}",
            "verdict": told["verdict"],
        }
        for told in results["verdicts"]
    ]


def answer(verdicts: pd.DataFrame) -> str:
    """Return the first verdict, the one the sweep was run for, as a sentence."""
    told = [row for row in records(verdicts) if row["n"]]
    return answer_to(told[0]) if told else "No two arms have verified results that can be paired yet."


def _first(frame: pd.DataFrame, column: str) -> Any:
    return frame[column].iloc[0] if column in frame and len(frame) else None


def _plain(value: Any) -> Any:
    """Return the value with NumPy scalars unwrapped and what is not finite replaced by None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return None if value is pd.NA or value is pd.NaT else value
