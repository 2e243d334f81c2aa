"""Pairings of students and teachers: their gain over no teacher, and whether the teacher's strength explains it."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from scipy import stats

from analysis.arms import CONTROL
from analysis.budget import expected_best
from analysis.tables import records

COLUMNS = ["sweep", "arm", "dataset", "student", "teacher", "teacher_family", "pairing", "trials", "finished", "score",
           "spread", "direct", "gain", "seconds", "teacher_seconds", "teacher_val", "teacher_parameters"]  # fmt: skip
BLOCK = ["sweep", "dataset", "student"]
"""The columns whose values are the same in pairings that are compared."""
NOT_SEPARABLE = "cannot be separated from the other terms with these teachers"
NEGLIGIBLE = 1e-6
"""Tolerance below which a column of length one counts as zero."""


def matrix(trials: pd.DataFrame, teachers: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each pairing of student and teacher (missing: none) of each arm on each data set with a trial.

    `score` is the expected best of n of its eligible trials' validation accuracies, n being the fewest that any
    pairing of that sweep, data set and student has in the replicate, so that more trials alone give no pairing an
    advantage; `spread` is their standard deviation, `gain` the score less that without a teacher (`direct`). All of
    these are means over replicates, a gain over those in which both have an eligible trial. `trials` counts the
    eligible trials and `finished` those that were trained to the end, within the constraints or not, of all replicates;
    `seconds` is the mean cost of an eligible trial, `teacher_seconds` the cost of the teacher and its cache, in a
    replicate. A pairing without an eligible trial has no score.
    """
    known = _known(teachers)
    rows = []
    for (sweep, dataset, student), part in trials.groupby(BLOCK, sort=False, dropna=False):
        if not isinstance(student, str):
            continue
        replicates = [_scored(one) for _, one in part.groupby("replicate", sort=False)]
        for (arm, teacher), every in part.groupby(["arm", "teacher"], sort=False, dropna=False):
            with_teacher, group = isinstance(teacher, str), every[every["eligible"]]
            key = (arm, teacher if with_teacher else None)
            there = [one[key] for one in replicates if key in one]
            about = known.get((str(sweep), _text(dataset), str(teacher)), {}) if with_teacher else {}
            rows.append({
                "sweep": sweep, "arm": arm, "dataset": dataset, "student": student, "teacher": key[1],
                "trials": len(group), "finished": int((every["state"] == "finished").sum()),
                **{name: _mean(one[name] for one in there) for name in ("score", "spread", "direct")},
                "gain": _mean(one["gain"] for one in there) if with_teacher else 0.0,
                "seconds": group["seconds"].mean(),
                "teacher_seconds": about.get("cost", 0.0), "teacher_val": about.get("val_accuracy", np.nan),
                "teacher_parameters": about.get("parameters", np.nan),
                **{c: every[c].iloc[0] for c in ("teacher_family", "pairing")},
            })  # fmt: skip
    return pd.DataFrame(rows, columns=COLUMNS)


def _scored(trials: pd.DataFrame) -> dict[tuple[str, str | None], dict[str, float]]:
    """Return score, spread, direct score and gain of each arm and teacher, of a student's trials in a replicate."""
    groups: dict[tuple[str, str | None], pd.DataFrame] = {
        (str(arm), teacher if isinstance(teacher, str) else None): group[group["eligible"]]
        for (arm, teacher), group in trials.groupby(["arm", "teacher"], sort=False, dropna=False)
    }
    fewest = min((len(group) for group in groups.values() if len(group)), default=0)
    scores = {key: float(expected_best(group["value"].to_numpy(), [fewest])["expected"].iloc[-1])
              if len(group) else np.nan for key, group in groups.items()}  # fmt: skip
    alone = [score for (_, teacher), score in scores.items() if teacher is None]
    direct = next((score for score in alone if not np.isnan(score)), np.nan)
    return {
        key: {"score": scores[key], "spread": group["value"].std(ddof=1), "direct": direct,
              "gain": scores[key] - direct}
        for key, group in groups.items()
    }  # fmt: skip


def _known(teachers: pd.DataFrame) -> dict[tuple[str, str, str], dict[str, float]]:
    """Return accuracy, parameters and cost of each teacher on each data set, as means over replicates."""
    table = teachers[~teachers["refitted"]]
    table = table.assign(cost=table["seconds"] + table["bank_seconds"], dataset=table["dataset"].map(_text))
    means = table.groupby(["sweep", "dataset", "name"])[["val_accuracy", "parameters", "cost"]].mean().reset_index()
    return {(row.pop("sweep"), row.pop("dataset"), row.pop("name")): row for row in records(means)}


def _text(name: object) -> str:
    """Return a data set's name, empty where it is not known."""
    return name if isinstance(name, str) else ""


def _mean(values: Iterable[float]) -> float:
    """Return the mean of the values that are known."""
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else np.nan


def teacher_effect(pairings: pd.DataFrame, response: str = "gain", level: float = 0.95) -> pd.DataFrame:
    """Return how much of a pairing's gain its heterogeneity, its teacher's accuracy and its teacher's size explain.

    Least squares over pairings with a teacher, each sweep, data set and student a block of its own (block means are
    subtracted), so that only teachers of the same student are compared; the control with shuffled relations is left
    out. Terms: `heterogeneous` (0 or 1), `teacher accuracy` (a point), `teacher size` (a tenfold number of parameters).
    Columns: `term`, `estimate`, `low`, `high`, `p`, `freedom`, `note`. A term that the design cannot separate from the
    others has no estimate, and its note says so.

    Args:
        pairings: as `matrix` returns.
        response: the column to explain.
        level: of the intervals.
    """
    paired = pairings[pairings["teacher"].notna() & (pairings["arm"] != CONTROL)].dropna(
        subset=[response, "teacher_val", "teacher_parameters"]
    )
    design = pd.DataFrame({
        "heterogeneous": (paired["pairing"] == "heterogeneous").astype(float),
        "teacher accuracy": 100 * paired["teacher_val"],
        "teacher size": np.log10(paired["teacher_parameters"]),
    })  # fmt: skip
    blocks = [paired[column] for column in BLOCK if column in paired]
    x = (design - design.groupby(blocks, dropna=False).transform("mean")).to_numpy(dtype=float)
    y = (paired[response] - paired.groupby(blocks, dropna=False)[response].transform("mean")).to_numpy(dtype=float)
    scale = np.linalg.norm(x, axis=0)
    scale = np.where(scale > NEGLIGIBLE, scale, np.inf)
    x = x / scale
    freedom = len(y) - paired.groupby(blocks, dropna=False).ngroups - _rank(x)
    inverse = np.linalg.pinv(x.T @ x, rcond=NEGLIGIBLE)
    coefficients = inverse @ x.T @ y
    residual = y - x @ coefficients
    variance = residual @ residual / freedom if freedom > 0 else np.nan
    error = np.sqrt(variance * np.diag(inverse))
    half = stats.t.ppf(0.5 + level / 2, max(freedom, 1)) * error
    with np.errstate(divide="ignore", invalid="ignore"):
        p = 2 * stats.t.sf(np.abs(coefficients / error), max(freedom, 1))
    columns = {
        "estimate": coefficients / scale,
        "low": (coefficients - half) / scale,
        "high": (coefficients + half) / scale,
    }
    table = pd.DataFrame({"term": list(design.columns), **columns, "p": p, "freedom": max(freedom, 0)})
    separable = np.array([_rank(np.delete(x, k, 1)) < _rank(x) for k in range(x.shape[1])])
    table["note"] = np.where(separable, "" if freedom > 0 else "too few pairings for an interval", NOT_SEPARABLE)
    table.loc[~separable, ["estimate", "low", "high", "p"]] = np.nan
    return table


def _rank(x: np.ndarray) -> int:
    return int(np.linalg.matrix_rank(x, tol=NEGLIGIBLE)) if x.size else 0
