"""Students and their teachers: what each pairing gained over no teacher, and whether its teacher's strength explains it."""

import numpy as np
import pandas as pd
from scipy import stats

from analysis.budget import expected_best

COLUMNS = ["sweep", "dataset", "student", "teacher", "teacher_family", "pairing", "trials", "score", "spread", "direct",
           "gain", "seconds", "teacher_seconds", "teacher_val", "teacher_parameters"]  # fmt: skip


def matrix(trials: pd.DataFrame, teachers: pd.DataFrame) -> pd.DataFrame:
    """Return a row a pairing of student and teacher (missing: none).

    `score` is the expected best of n of its finished trials' validation accuracies, n being the fewest that any
    pairing of that sweep and student has, so that a pairing that was tried more often is not ahead for that alone;
    `spread` is their standard deviation, `gain` the score less that without a teacher (`direct`), `seconds` the mean
    cost of a finished trial, `teacher_seconds` what the teacher and its bank cost.
    """
    done = trials[(trials["state"] == "finished") & trials["value"].notna()]
    known = teachers.set_index(["sweep", "name"])
    rows = []
    for (sweep, student), part in done.groupby(["sweep", "student"], sort=False):
        groups = {teacher: group for teacher, group in part.groupby("teacher", sort=False, dropna=False)}
        fewest = min(len(group) for group in groups.values())
        scores = {
            t: float(expected_best(g["value"].to_numpy(), fewest)["expected"].iloc[-1]) for t, g in groups.items()
        }
        direct = next((score for t, score in scores.items() if not isinstance(t, str)), np.nan)
        for teacher, group in groups.items():
            taught = isinstance(teacher, str)
            about = known.loc[(sweep, teacher)] if taught and (sweep, teacher) in known.index else None
            rows.append({
                "sweep": sweep, "student": student, "teacher": teacher if taught else None, "trials": len(group),
                "score": scores[teacher], "spread": group["value"].std(ddof=1), "direct": direct,
                "gain": scores[teacher] - direct if taught else 0.0, "seconds": group["seconds"].mean(),
                "teacher_seconds": 0.0 if about is None else about["seconds"] + about["bank_seconds"],
                "teacher_val": np.nan if about is None else about["val_accuracy"],
                "teacher_parameters": np.nan if about is None else about["parameters"],
                **{c: group[c].iloc[0] for c in ("dataset", "teacher_family", "pairing")},
            })  # fmt: skip
    return pd.DataFrame(rows, columns=COLUMNS)


def teacher_effect(pairings: pd.DataFrame, response: str = "gain", level: float = 0.95) -> pd.DataFrame:
    """Return what explains a pairing's gain: that it is heterogeneous, or that its teacher is stronger or larger.

    Least squares over pairings with a teacher, each sweep and student a block of its own (their means are taken out),
    so that only teachers of the same student are compared. Terms: `heterogeneous` (0 or 1), `teacher accuracy` (a
    point), `teacher size` (a tenfold number of parameters). Columns: `term`, `estimate`, `low`, `high`, `p`, `freedom`,
    `note`. A term that the design cannot separate from the others has no estimate, and its note says so.

    Args:
        pairings: as `matrix` returns.
        response: the column that is explained.
        level: of the intervals.
    """
    taught = pairings[pairings["teacher"].notna()].dropna(subset=[response, "teacher_val", "teacher_parameters"])
    design = pd.DataFrame({
        "heterogeneous": (taught["pairing"] == "heterogeneous").astype(float),
        "teacher accuracy": 100 * taught["teacher_val"],
        "teacher size": np.log10(taught["teacher_parameters"]),
    })  # fmt: skip
    blocks = [taught["sweep"], taught["student"]]
    x = (design - design.groupby(blocks).transform("mean")).to_numpy(dtype=float)
    y = (taught[response] - taught.groupby(blocks)[response].transform("mean")).to_numpy(dtype=float)
    freedom = len(y) - taught.groupby(["sweep", "student"]).ngroups - np.linalg.matrix_rank(x) if len(y) else 0
    apart = _separable(x)
    inverse = np.linalg.pinv(x.T @ x) if len(y) else np.zeros((3, 3))
    coefficients = inverse @ x.T @ y if len(y) else np.full(3, np.nan)
    residual = y - x @ coefficients
    variance = residual @ residual / freedom if freedom > 0 else np.nan
    error = np.sqrt(variance * np.diag(inverse))
    half = stats.t.ppf(0.5 + level / 2, max(freedom, 1)) * error
    with np.errstate(divide="ignore", invalid="ignore"):
        p = 2 * stats.t.sf(np.abs(coefficients / error), max(freedom, 1))
    table = pd.DataFrame({"term": list(design.columns), "estimate": coefficients, "low": coefficients - half,
                          "high": coefficients + half, "p": p, "freedom": freedom})  # fmt: skip
    table["note"] = np.where(apart, "" if freedom > 0 else "too few pairings for an interval",
                             "cannot be separated from the other terms with these teachers")  # fmt: skip
    table.loc[~apart, ["estimate", "low", "high", "p"]] = np.nan
    return table


def _separable(x: np.ndarray) -> np.ndarray:
    """Which columns are no linear combination of the others (a constant column is one)."""
    if not len(x):
        return np.zeros(x.shape[1], dtype=bool)
    scale = np.linalg.norm(x, axis=0)
    unit = np.where(scale > 1e-9, x / np.where(scale > 1e-9, scale, 1), 0.0)
    rank = np.linalg.matrix_rank(unit, tol=1e-6)
    return np.array([np.linalg.matrix_rank(np.delete(unit, k, 1), tol=1e-6) < rank for k in range(x.shape[1])])
