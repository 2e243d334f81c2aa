"""Numbers, metrics and verdicts as text. Fractions are shown in percent, differences in points."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from analysis.units import OVERALL
from supersnn.records.metrics import Metric

ONE_SEARCH = "one search each; the search's own luck is not in this interval"
"""What the evidence of one search of each arm leaves out."""


def claim(row: Mapping[str, Any], where: bool = False) -> str:
    """Return a verdict, a row of `compare.verdicts` with pairs, as a sentence without its full stop.

    Of one search an arm it is about the winners that the searches found; of several, about the arms. `where`: it names
    the data set.
    """
    difference = signed(row["difference"])
    a, b = (f"the winner found for {arm}" if row["unit"] == "seed" else str(arm) for arm in (row["a"], row["b"]))
    head = a[:1].upper() + a[1:]
    points = f"points of test accuracy{place(row) if where else ''}"
    match row["verdict"]:
        case "better" | "worse":
            small = ", within the equivalence margin" if row["equivalent"] else ""
            return f"{head} is {row['verdict']} than {b} by {percent(abs(row['difference']))} {points}{small}"
        case "equivalent":
            return f"{head} and {b} are equivalent: they differ by {difference} {points}"
        case "too few seeds" | "too few searches":
            few = f"which so few {'seeds' if row['unit'] == 'seed' else 'searches'} cannot confirm"
            if difference in ("+0.00", "−0.00"):
                return f"No difference seen between {a} and {b}{place(row) if where else ''}, {few}"
            return f"{head} differs from {b} by {difference} {points}, {few}"
    return f"No difference found between {a} and {b}: {difference} {points}"


def place(row: Mapping[str, Any]) -> str:
    """Return the data set of a verdict, as in "on digits"; empty where it has no name."""
    if row["dataset"] == OVERALL:
        return f" over {row['datasets']} data sets"
    return f" on {row['dataset']}" if row["dataset"] else ""


def evidence(row: Mapping[str, Any]) -> str:
    """Return a verdict's evidence: interval, p value, and the number of units."""
    known = row["low"] is not None and math.isfinite(row["low"])
    if known:
        interval = f"95 % interval {signed(row['low'])} to {signed(row['high'])}"
    else:
        why = f"from one {row['unit']}" if row["n"] < 2 else "where nothing varies"
        interval = f"no interval {why}"
    look = f", look {row['look']}" if row["look"] > 1 else ""
    return f"{interval}, Holm-adjusted p = {row['p']:.2g}{look}, {units(row)}"


def units(row: Mapping[str, Any]) -> str:
    """Return what a verdict rests on: how many searches of each arm, or paired seeds."""
    number, what = counted(row).split(" ")
    if row["unit"] == "seed":
        return f"{number} paired {what}"
    over = f" on {row['datasets']} data sets" if row["datasets"] > 1 else ""
    seeds = f"{row['seeds']} fresh seed{'s' if row['seeds'] != 1 else ''} a winner"
    return f"{number} paired {what}{over}, {seeds}"


def counted(row: Mapping[str, Any]) -> str:
    """Return the number of a verdict's units, as in "7 searches"."""
    one = row["n"] == 1
    return f"{row['n']} {row['unit'] if one else 'searches' if row['unit'] == 'search' else 'seeds'}"


def scope(row: Mapping[str, Any]) -> str:
    """Return what a verdict leaves out, empty where that is nothing."""
    return ONE_SEARCH if row["unit"] == "seed" else ""


def answer_to(row: Mapping[str, Any], where: bool = False) -> str:
    """Return a verdict and its evidence as a sentence."""
    return f"{claim(row, where)} ({evidence(row)})."


def full_answer(row: Mapping[str, Any], where: bool = False) -> str:
    """Return a verdict, its evidence and its scope as a sentence."""
    return f"{claim(row, where)} ({'; '.join(filter(None, (evidence(row), scope(row))))})."


def between(low: float | None, high: float | None, form: Callable[[float | None], str]) -> str:
    """Return an interval, each end in the given form."""
    return "–" if low is None or high is None or not math.isfinite(high - low) else f"{form(low)} to {form(high)}"


def percent(value: float | None) -> str:
    """Return a fraction in percent with two digits, a dash for none."""
    return "–" if value is None or not math.isfinite(value) else f"{100 * value:.2f}"


def signed(value: float | None) -> str:
    """Return a difference of fractions in points, with its sign."""
    if value is None or math.isnan(value):
        return "–"
    return f"{100 * value:+.2f}".replace("-", "−") if math.isfinite(value) else ("∞" if value > 0 else "−∞")


def number(value: float | None) -> str:
    """Return a quantity to three digits, with k, M, G for thousands."""
    if value is None or not math.isfinite(value):
        return "–"
    for size, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def quantity(value: float | None) -> str:
    """Return a quantity with a unit to three digits, in that unit: thousands are separated by commas."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:,.0f}" if abs(value) >= 99.95 else f"{value:.3g}"


def heading(metric: Metric) -> str:
    """Return a metric's title with the unit in which it is shown."""
    unit = {"fraction": "%"}.get(metric.unit, metric.unit)
    return f"{metric.title}, {unit}" if unit else metric.title


def metric_text(metric: Metric, value: float | None) -> str:
    """Return a metric's value in the unit of its heading."""
    if metric.unit == "fraction":
        return percent(value)
    return quantity(value) if metric.unit else number(value)


def duration(seconds: float | None) -> str:
    """Return seconds in the largest suitable unit."""
    if seconds is None or not math.isfinite(seconds):
        return "–"
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def sentence(text: str) -> str:
    """Return a text with a capital letter at its beginning."""
    return text[:1].upper() + text[1:]


def unbroken(text: str) -> str:
    """Return a text that is not broken over lines."""
    return text.replace(" ", "\u00a0")


def listed(items: Iterable[str]) -> str:
    """Return items as a list in words."""
    words = list(items)
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
