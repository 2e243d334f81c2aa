"""The answer to a question over all sweeps that ask it: verdicts, what one search would have said, and its luck."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from analysis import compare, equal_energy, luck
from analysis.arms import BASELINE, CONTROL, HETEROGENEOUS, HOMOGENEOUS
from analysis.components import components
from analysis.sentences import (
    answer_to,
    between,
    claim,
    evidence,
    full_answer,
    listed,
    percent,
    place,
    scope,
    signed,
    units,
)
from analysis.tables import Sweep, collect, records
from analysis.units import OVERALL

NOTHING = "No two arms have verified results that can be paired yet."


@dataclass(frozen=True)
class Answer:
    """What sweeps that ask one question say together.

    Attributes:
        sweeps: the sweeps, without those that are copies of others.
        copies: names of sweeps that are left out because they have the results of another, and that one's name.
        margin: half width of the range that counts as equivalent.
    """

    sweeps: tuple[Sweep, ...]
    copies: Mapping[str, str]
    margin: float

    @cached_property
    def verified(self) -> pd.DataFrame:
        """The final runs of all sweeps."""
        return collect(self.sweeps).verified

    @cached_property
    def verdicts(self) -> pd.DataFrame:
        """As `analysis.compare.verdicts` returns them."""
        return compare.verdicts(self.verified, margin=self.margin)

    @cached_property
    def equal_energy(self) -> pd.DataFrame:
        """As `analysis.equal_energy.verdicts` returns them."""
        return equal_energy.verdicts(collect(self.sweeps).anytime, margin=self.margin)

    @cached_property
    def arms(self) -> pd.DataFrame:
        """As `analysis.compare.arms` returns them."""
        return compare.arms(self.verified)

    @cached_property
    def components(self) -> pd.DataFrame:
        """As `analysis.components.components` returns them."""
        return components(self.verified)

    @cached_property
    def one_search(self) -> pd.DataFrame:
        """What each search alone would have said, for the comparisons that have several searches: a row for each.

        Columns: `dataset`, `a`, `b`, `searches`, `better`, `worse`, `neither`, the `least` and the `greatest`
        difference.
        """
        several = self.verdicts[self.verdicts["unit"].eq("search") & self.verdicts["dataset"].ne(OVERALL)]
        alone = compare.one_search(self.verified, margin=self.margin) if len(several) else several
        alone = alone[alone["n"] > 0] if len(alone) else alone
        rows = []
        for (dataset, a, b), part in alone.groupby(["dataset", "a", "b"], sort=False):
            if ((several["dataset"] == dataset) & (several["a"] == a) & (several["b"] == b)).any():
                counts = part["verdict"].value_counts()
                better, worse = int(counts.get("better", 0)), int(counts.get("worse", 0))
                rows.append({"dataset": dataset, "a": a, "b": b, "searches": len(part), "better": better,
                             "worse": worse, "neither": len(part) - better - worse,
                             "least": part["difference"].min(), "greatest": part["difference"].max()})  # fmt: skip
        columns = ["dataset", "a", "b", "searches", "better", "worse", "neither", "least", "greatest"]
        return pd.DataFrame(rows, columns=columns)

    @cached_property
    def luck(self) -> pd.DataFrame:
        """As `analysis.luck.another_search` returns it, for comparisons with one search of each arm."""
        single = self.verdicts[self.verdicts["unit"].eq("seed") & (self.verdicts["n"] > 0)]
        pairs = list(dict.fromkeys(zip(single["a"], single["b"], strict=True)))
        found = luck.another_search(collect(self.sweeps).trials, pairs)
        known = set(zip(single["dataset"], single["a"], single["b"], strict=True))
        keep = [key in known for key in zip(found["dataset"], found["a"], found["b"], strict=True)]
        return found[np.array(keep, dtype=bool)].reset_index(drop=True)

    @property
    def complete(self) -> bool:
        """Whether all sweeps are done."""
        return all(sweep.complete for sweep in self.sweeps)

    @property
    def name(self) -> str:
        """The sweeps' names."""
        return ", ".join(sweep.name for sweep in self.sweeps)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The verdicts with pairs of the widest scope: over all data sets if there are any, else on each."""
        every = [row for row in records(self.verdicts) if row["n"]]
        return [row for row in every if row["dataset"] == OVERALL] or every

    @cached_property
    def headline(self) -> str:
        """Whether a teacher helps, which kind, and by how much, in one or two sentences."""
        return headline(records(self.verdicts))

    @property
    def evidence(self) -> str:
        """The evidence of the headline: of one search that of its verdict, of several that of each comparison."""
        if not self.rows:
            return ""
        first = self.rows[0]
        if first["unit"] == "seed":
            return f"{evidence(first)}; {scope(first)}."
        parts = [f"{row['a']} − {row['b']} {between(row['low'], row['high'], signed)} (p = {row['p']:.2g})"
                 for row in self.rows if row["dataset"] == first["dataset"] and row["unit"] == "search"]  # fmt: skip
        gains = [row for row in self.rows if row["b"] == BASELINE]
        by_data_set = " ".join(_by_data_set(gains, records(self.verdicts)))
        return f"95 % intervals and Holm-adjusted p: {', '.join(parts)}; {units(first)}. {by_data_set}".strip()

    @property
    def sentence(self) -> str:
        """The first verdict with its evidence, as a sentence."""
        several = len(set(self.verdicts["dataset"])) > 1
        return full_answer(self.rows[0], where=several) if self.rows else NOTHING

    def lines(self) -> list[str]:
        """Return the verdicts after the headline's, with their evidence, each as a sentence."""
        rows = [row for row in records(self.verdicts) if row["n"]]
        several = len({row["dataset"] for row in rows}) > 1
        return [answer_to(row, where=several) for row in rows]


def answers(sweeps: Sequence[Sweep], margin: float = compare.MARGIN) -> list[Answer]:
    """Return the answer to each question that the sweeps ask, in their order."""
    tables = collect(sweeps)
    questions = dict(zip(tables.verified["sweep"], tables.verified["question"], strict=True))
    questions |= dict(zip(tables.trials["sweep"], tables.trials["question"], strict=True))
    groups: dict[str, list[Sweep]] = {}
    for sweep in sweeps:
        groups.setdefault(questions.get(sweep.name, sweep.name), []).append(sweep)
    return [_answer(group, margin) for group in groups.values()]


def _answer(sweeps: Sequence[Sweep], margin: float) -> Answer:
    """Return the answer of sweeps that ask one question; of those with the same final runs the first counts."""
    kept: dict[tuple[Any, ...], Sweep] = {}
    copies: dict[str, str] = {}
    for sweep in sweeps:
        columns = (sweep.verified[name] for name in ("dataset", "arm", "replicate", "trial", "seed", "test", "val"))
        results = tuple(sorted(zip(*columns, strict=True), key=str))
        if results and results in kept:
            copies[sweep.name] = kept[results].name
        else:
            kept[results or (sweep.name,)] = sweep
    return Answer(tuple(kept.values()), copies, margin)


def headline(verdicts: Sequence[Mapping[str, Any]]) -> str:
    """Return whether a teacher helps, which kind, on which data and by how much.

    With one search of each arm the first verdict, which is about two winners.
    """
    rows = [row for row in verdicts if row["n"]]
    if not rows:
        return NOTHING
    top = [row for row in rows if row["dataset"] == OVERALL] or rows
    several = len({row["dataset"] for row in rows}) > 1
    if top[0]["unit"] == "seed":
        return f"{claim(top[0], where=several)}."
    gains = [row for row in top if row["b"] == BASELINE and row["a"] != CONTROL and row["unit"] == "search"]
    kinds = [row for row in top if (row["a"], row["b"]) == (HETEROGENEOUS, HOMOGENEOUS) and row["unit"] == "search"]
    parts = [*_helps(gains, several), *(f"{claim(row, where=several)}." for row in kinds)]
    return " ".join(parts) if parts else f"{claim(top[0], where=several)}."


def _helps(gains: Sequence[Mapping[str, Any]], several: bool) -> Iterator[str]:
    """Say which arms are better than the baseline, or that none was found to be."""
    places = {place(row) for row in gains} if several else {""}
    common = places.pop() if len(places) == 1 else None

    def where(row: Mapping[str, Any]) -> str:
        return place(row) if common is None else ""

    def phrase(row: Mapping[str, Any], verb: str) -> str:
        return f"{row['a']} {verb} {percent(abs(row['difference']))} points{where(row)}"

    better = [phrase(row, "gains") for row in gains if row["verdict"] == "better"]
    worse = [phrase(row, "loses") for row in gains if row["verdict"] == "worse"]
    if better:
        yield f"A teacher helps{common or ''}: {listed(better)} over no teacher."
    if worse:
        harm = "But" if better else f"A teacher harms{common or ''}:"
        yield f"{harm} {listed(worse)} against no teacher."
    if gains and not better and not worse:
        found = [f"{row['a']} {signed(row['difference'])} points{where(row)}" for row in gains]
        word = "was found" if all(row["verdict"] == "no difference found" for row in gains) else "is established"
        yield f"No gain from a teacher {word}{common or ''}: {listed(found)} against no teacher."


def _by_data_set(gains: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Say on which data sets an arm's verdict is another than over all of them."""
    for gain in gains:
        own = [row for row in rows if (row["a"], row["b"]) == (gain["a"], gain["b"]) and row["dataset"] != OVERALL]
        if gain["dataset"] == OVERALL and {row["verdict"] for row in own} != {gain["verdict"]}:
            words = dict.fromkeys(row["verdict"] for row in own)
            places = {word: listed(row["dataset"] for row in own if row["verdict"] == word) for word in words}
            found = listed(f"{word} on {where}" for word, where in places.items())
            yield f"By data set, {gain['a']} against {gain['b']}: {found}."
