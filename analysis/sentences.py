"""Numbers, metrics and verdicts as text. Fractions are shown in percent, differences in points."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from supersnn.records.metrics import Metric


def claim(row: Mapping[str, Any]) -> str:
    """Return a verdict, a row of `compare.verdicts` with pairs, as a sentence without its full stop.

    Of one sweep, with one search an arm, it is about the winners that the searches found; of several, about the arms.
    """
    difference = signed(row["difference"])
    a, b = (f"the winner found for {arm}" if row["blocks"] == 1 else str(arm) for arm in (row["a"], row["b"]))
    head = a[:1].upper() + a[1:]
    match row["verdict"]:
        case "better" | "worse":
            small = ", within the equivalence margin" if row["equivalent"] else ""
            size = percent(abs(row["difference"]))
            return f"{head} is {row['verdict']} than {b} by {size} points of test accuracy{small}"
        case "equivalent":
            return f"{head} and {b} are equivalent: they differ by {difference} points of test accuracy"
        case "too few seeds" if difference in ("+0.00", "−0.00"):
            return f"No difference seen between {a} and {b}, which so few seeds cannot confirm"
        case "too few seeds":
            return f"{head} differs from {b} by {difference} points of test accuracy, which so few seeds cannot confirm"
    return f"No difference found between {a} and {b}: {difference} points of test accuracy"


def evidence(row: Mapping[str, Any]) -> str:
    """Return a verdict's evidence: interval, p value and number of pairs."""
    known = row["low"] is not None and math.isfinite(row["low"])
    interval = f"95 % interval {signed(row['low'])} to {signed(row['high'])}" if known else "no interval from one pair"
    return f"{interval}, Holm-adjusted p = {row['p']:.2g}, {row['n']} paired seed{'s' if row['n'] != 1 else ''}"


ONE_SEARCH = "one search each; the search's own luck is not in this interval"
"""What the evidence of one sweep leaves out."""


def scope(row: Mapping[str, Any]) -> str:
    """Return what a verdict speaks for: how many searches of each arm."""
    return ONE_SEARCH if row["blocks"] == 1 else f"over {row['blocks']} sweeps"


def answer_to(row: Mapping[str, Any]) -> str:
    """Return a verdict and its evidence as a sentence."""
    return f"{claim(row)} ({evidence(row)})."


def full_answer(row: Mapping[str, Any]) -> str:
    """Return a verdict, its evidence and its scope as a sentence."""
    return f"{claim(row)} ({evidence(row)}; {scope(row)})."


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


def listed(items: Iterable[str]) -> str:
    """Return items as a list in words."""
    words = list(items)
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
