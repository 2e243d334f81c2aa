"""The tables of a data set at equal sides: the arms with what was chosen for them, then the comparisons."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.compare import ALPHA, verdicts
from benchmarks.sides.design import CLAIM, DRAWS, SEEDS, Comparison, compared, grid
from benchmarks.trainings import Values

EDGE = " (edge)"
"""Stands behind a chosen value at the end of its grid: a better one may lie beyond."""


def findings(comparison: Comparison, seeds: Sequence[int] = SEEDS) -> Iterator[str]:
    """Yield the lines of one data set, after running or looking up its trainings."""
    chosen, best = comparison.tuned()
    rows = pd.DataFrame(list(comparison.final(chosen, seeds)))
    yield f"### {comparison.data}, {comparison.sizes['epochs']} epochs"
    yield ""
    yield "| arm | rate | weight | seeds | test accuracy, % |"
    yield "| --- | --- | --- | --- | --- |"
    for arm, values in chosen.items():
        test = 100 * rows[rows["arm"] == arm]["test"]
        rate, weight = _chosen(arm, values, best)
        yield f"| {arm} | {rate} | {weight} | {len(test)} | {test.mean():.2f} ± {test.std():.2f} |"
    yield ""
    asked = compared(list(chosen), best)
    if asked:
        yield from _comparisons(rows, asked)


def _chosen(arm: str, values: Values, best: str) -> tuple[str, str]:
    """Return the chosen rate and weight as text."""
    tried = grid(arm, best)
    rate_edge, weight_edge = tried.at_edge(values)
    weight = f"{values[tried.weight]:g}{EDGE if weight_edge else ''}" if tried.weight else ""
    return f"{values['optimizer.lr']:g}{EDGE if rate_edge else ''}", weight


def _comparisons(rows: pd.DataFrame, asked: Sequence[tuple[str, str, str]]) -> Iterator[str]:
    draws = " / ".join(str(draw) for draw in range(DRAWS))
    yield f"| comparison | difference, points | 95 % interval | p (Holm) | with teacher draw {draws} | holds |"
    yield "| --- | --- | --- | --- | --- | --- |"
    held = {}
    found = verdicts(rows, [(ours, theirs) for ours, theirs, _ in asked]).to_dict("records")
    for (ours, theirs, sentence), row in zip(asked, found, strict=True):
        held[ours, theirs] = holds(row)
        by_draw = " / ".join(f"{100 * value:+.2f}" for value in _by_draw(rows, ours, theirs))
        yield (
            f"| {sentence}: {ours} − {theirs} | {100 * row['difference']:+.2f} | {100 * row['low']:+.2f} … "
            f"{100 * row['high']:+.2f} | {row['p']:.3f} | {by_draw} | {word(row)} |"
        )
    yield ""
    if all((ours, theirs) in held for ours, theirs, _ in CLAIM):
        every = all(held[ours, theirs] for ours, theirs, _ in CLAIM)
        yield f"The claim, that features lead at every equal side: {'**holds**' if every else '**not established**'}."
        yield ""


def _by_draw(rows: pd.DataFrame, ours: str, theirs: str) -> Iterator[float]:
    means = rows.groupby(["teacher_draw", "arm"])["test"].mean()
    for draw in sorted(set(rows["teacher_draw"])):
        yield means[draw, ours] - means[draw, theirs]


def holds(row: Mapping[Hashable, Any]) -> bool:
    """Return whether the first arm leads: by its adjusted p-value and its interval."""
    return bool(row["p"] < ALPHA and row["low"] > 0)


def word(row: Mapping[Hashable, Any]) -> str:
    """Return whether a comparison holds, as a word; `the opposite` holds by the same rule."""
    if holds(row):
        return "yes"
    return "no, the opposite" if row["p"] < ALPHA and row["high"] < 0 else "no"
