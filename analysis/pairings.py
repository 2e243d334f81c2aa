"""Pairings of students and teachers: their gain over no teacher, and whether the teacher's strength explains it."""

from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from analysis.arms import CONTROL
from analysis.budget import expected_best
from analysis.tables import records

COLUMNS = ["sweep", "arm", "dataset", "student", "teacher", "teacher_family", "pairing", "trials", "finished", "score",
           "spread", "direct", "gain", "seconds", "teacher_seconds", "teacher_val", "teacher_parameters"]  # fmt: skip
NOT_SEPARABLE = "cannot be separated from the other terms with these teachers"
NEGLIGIBLE = 1e-6
"""Tolerance below which a column of length one counts as zero."""


def matrix(trials: pd.DataFrame, teachers: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each pairing of student and teacher (missing: none) of each arm that had a trial.

    `score` is the expected best of n of its eligible trials' validation accuracies, n being the fewest that any
    pairing of that sweep and student has, so that more trials alone give no pairing an advantage; `spread` is their
    standard deviation, `gain` the score less that without a teacher (`direct`), `seconds` the mean cost of an eligible
    trial, `teacher_seconds` the cost of the teacher and its cache. A pairing without an eligible trial has no score;
    `finished` counts the trials that were trained to the end, within the constraints or not.
    """
    known = {(row["sweep"], row["name"]): row for row in records(teachers[~teachers["refitted"]])}
    rows = []
    for (sweep, student), part in trials.groupby(["sweep", "student"], sort=False):
        every: dict[Any, pd.DataFrame] = dict(list(part.groupby(["arm", "teacher"], sort=False, dropna=False)))
        groups = {key: group[group["eligible"]] for key, group in every.items()}
        fewest = min((len(group) for group in groups.values() if len(group)), default=0)
        scores = {key: float(expected_best(group["value"].to_numpy(), [fewest])["expected"].iloc[-1])
                  if len(group) else np.nan for key, group in groups.items()}  # fmt: skip
        alone = [score for (_, teacher), score in scores.items() if not isinstance(teacher, str)]
        direct = next((score for score in alone if not np.isnan(score)), np.nan)
        for (arm, teacher), group in groups.items():
            with_teacher = isinstance(teacher, str)
            about = known.get((sweep, teacher))
            rows.append({
                "sweep": sweep, "arm": arm, "student": student, "teacher": teacher if with_teacher else None,
                "trials": len(group), "finished": int((every[arm, teacher]["state"] == "finished").sum()),
                "score": scores[arm, teacher], "spread": group["value"].std(ddof=1), "direct": direct,
                "gain": scores[arm, teacher] - direct if with_teacher else 0.0, "seconds": group["seconds"].mean(),
                "teacher_seconds": 0.0 if about is None else about["seconds"] + about["bank_seconds"],
                "teacher_val": np.nan if about is None else about["val_accuracy"],
                "teacher_parameters": np.nan if about is None else about["parameters"],
                **{c: every[arm, teacher][c].iloc[0] for c in ("dataset", "teacher_family", "pairing")},
            })  # fmt: skip
    return pd.DataFrame(rows, columns=COLUMNS)


def teacher_effect(pairings: pd.DataFrame, response: str = "gain", level: float = 0.95) -> pd.DataFrame:
    """Return how much of a pairing's gain its heterogeneity, its teacher's accuracy and its teacher's size explain.

    Least squares over pairings with a teacher, each sweep and student a block of its own (block means are subtracted),
    so that only teachers of the same student are compared; the control with shuffled relations is left out. Terms:
    `heterogeneous` (0 or 1), `teacher accuracy` (a point), `teacher size` (a tenfold number of parameters). Columns:
    `term`, `estimate`, `low`, `high`, `p`, `freedom`, `note`. A term that the design cannot separate from the others
    has no estimate, and its note says so.

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
    blocks = [paired["sweep"], paired["student"]]
    x = (design - design.groupby(blocks).transform("mean")).to_numpy(dtype=float)
    y = (paired[response] - paired.groupby(blocks)[response].transform("mean")).to_numpy(dtype=float)
    scale = np.linalg.norm(x, axis=0)
    scale = np.where(scale > NEGLIGIBLE, scale, np.inf)
    x = x / scale
    freedom = len(y) - paired.groupby(["sweep", "student"]).ngroups - _rank(x)
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
