"""The tables at the top of the page: arms and gains by data set, as a paper prints them, and what they rest on."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from analysis.answers import Answer
from analysis.arms import BASELINE
from analysis.results import differs
from analysis.sentences import between, counted, percent, signed, unbroken
from analysis.tables import records
from analysis.units import OVERALL

CONCLUSIVE = ("better", "worse", "equivalent")
"""The verdicts that the table of gains says; the others are the absence of one."""
COMPONENTS = {
    "replicate": "what all arms of a replicate share", "search": "searches of an arm",
    "seed": "fresh seeds of a winner",
}  # fmt: skip


def table(answer: Answer, arms: list[str]) -> pd.DataFrame:
    """Return a row of accuracies for each data set, and one of gains over the baseline; columns are the arms.

    An accuracy is the mean over searches (over seeds with one search) ± half of its 95 % interval, in percent; a gain
    has its interval and its verdict, in points.
    """
    cells = {(row["dataset"], row["arm"]): row for row in records(answer.arms)}
    gains = {(row["dataset"], row["a"]): row for row in records(answer.verdicts) if row["b"] == BASELINE and row["n"]}
    present = [arm for arm in arms if any(arm == name for _, name in cells)]
    rows = []
    for dataset in dict.fromkeys(dataset for dataset, _ in cells):
        accuracies = {arm: _accuracy(cells.get((dataset, arm))) for arm in present}
        rows.append({"data": dataset, "": "accuracy, %", **accuracies})
        rows += _gains(gains, str(dataset), str(dataset), present)
    rows += _gains(gains, OVERALL, "all data sets", present)
    return pd.DataFrame(rows)


def _gains(
    gains: Mapping[tuple[Any, Any], Mapping[str, Any]], dataset: str, name: str, arms: list[str]
) -> Iterator[dict[str, str]]:
    own = {arm: gains[dataset, arm] for arm in arms if (dataset, arm) in gains}
    if own:
        yield {"data": name, "": "gain, points", **{arm: _gain(own.get(arm)) for arm in arms}}


def _accuracy(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return "–"
    half = (row["high"] - row["low"]) / 2
    return percent(row["mean"]) + (f" ± {percent(half)}" if math.isfinite(half) else "")


def _gain(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return "–"
    interval = f" ({between(row['low'], row['high'], signed)})" if math.isfinite(row["low"]) else ""
    verdict = f", {row['verdict']}" if row["verdict"] in CONCLUSIVE else ""
    return f"{signed(row['difference'])}{interval}{verdict}"


def verdict_rows(verdicts: pd.DataFrame) -> pd.DataFrame:
    """Return the verdicts as the page shows them."""
    rows = records(verdicts)
    skewed = any(differs(row["difference"], row["iqm"], row["se"]) for row in rows)
    several = len({row["dataset"] for row in rows}) > 1
    return pd.DataFrame([
        {"comparison": f"{row['a']} − {row['b']}", **({"data": row["dataset"]} if several else {}),
         "difference": row["difference"], **({"iqm_points": row["iqm"]} if skewed else {}),
         "95 % interval": unbroken(between(row["low"], row["high"], signed)), "p": row["p"],
         "P(better)": unbroken(chance(row)), "rests on": unbroken(counted(row)), "verdict": row["verdict"]}
        for row in rows
    ])  # fmt: skip


def equal_energy_rows(found: pd.DataFrame) -> pd.DataFrame:
    """Return the verdicts at equal energy as the page shows them."""
    rows = records(found)
    several = len({row["dataset"] for row in rows}) > 1
    return pd.DataFrame([
        {"comparison": f"{row['a']} − {row['b']}", **({"data": row["dataset"]} if several else {}),
         "stops by": row["rule"], "energy_nj": row["energy_nj"], "difference": row["difference"],
         "95 % interval": between(row["low"], row["high"], signed), "p": row["p"], "rests on": counted(row),
         "verdict": row["verdict"]}
        for row in rows
    ])  # fmt: skip


def chance(row: Mapping[str, Any]) -> str:
    """Return the probability of improvement with its interval."""
    value = row["prob_improvement"]
    if value is None or math.isnan(value):
        return "–"
    known = math.isfinite(row["prob_low"])
    return f"{value:.2f}" + (f" ({row['prob_low']:.2f} to {row['prob_high']:.2f})" if known else "")


def one_search(answer: Answer) -> pd.DataFrame:
    """Return what one search alone would have said, as shown."""
    return pd.DataFrame([
        {"comparison": f"{row['a']} − {row['b']}", "data": row["dataset"], "searches": row["searches"],
         "better": row["better"], "worse": row["worse"], "neither": row["neither"],
         "differences, points": f"{signed(row['least'])} to {signed(row['greatest'])}"}
        for row in records(answer.one_search)
    ])  # fmt: skip


def components(answer: Answer) -> pd.DataFrame:
    """Return the components of variance as shown."""
    return pd.DataFrame([
        {"between": COMPONENTS[row["component"]], "data": row["dataset"],
         "standard deviation, points": percent(row["sd"]), "95 % interval": between(row["low"], row["high"], percent),
         "share of the variance, %": f"{100 * row['share']:.0f}"}
        for row in records(answer.components)
        if (answer.components["component"] == "search").any() and math.isfinite(row["share"])
    ])  # fmt: skip
