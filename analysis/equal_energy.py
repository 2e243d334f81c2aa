"""Verdicts at equal energy: arms compared where they spend the same, not where each has run all of its time steps.

Final runs record accuracy and energy after each time step (the rule ``steps``) and of early exits at several
confidences (``confidence``). Of each search, the means over its winner's fresh seeds make a curve of accuracy over
energy, along which values between two points are interpolated. Two searches of a replicate are compared at the highest
energy that both curves reach. With one search of each arm the units are the seeds, each with a curve of its own.

There is no verdict where any pair of units has no energy in common: the pairs that are left would be a selection by the
outcome.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis import compare
from analysis.arms import comparisons
from analysis.statistics import Floats
from analysis.tables import records

RULES = ("steps", "confidence")
COLUMNS = (
    "dataset", "rule", "a", "b", "energy_nj", "energy_low", "energy_high", "accuracy_a", "accuracy_b", "difference",
    "low", "high", "p", "verdict", "unit", "n", "seeds", "datasets", "iqm", "se", "look",
)  # fmt: skip
_OTHERWISE: Mapping[str, Any] = {
    "question": "", "dataset": "", "sweep": "", "replicate": 0, "trial": 0, "look": 0, "at_most": 0, "draw": "",
    "images": math.nan, "winner": True,
}  # fmt: skip
"""The columns that may be missing, and what is assumed then."""
_OF_RUN = ["trial", "seed", "winner", "look", "at_most", "images", "draw"]
"""The columns of a final run that `compare.verdicts` takes."""
_BETWEEN = "\t"
"""Between the rule, the two arms of a comparison and the side, which are one arm's name for `compare.verdicts`."""


class Search(NamedTuple):
    """A search's rows of its winner, and the final runs of it and of earlier winners, with the columns of `_OF_RUN`."""

    points: pd.DataFrame
    runs: list[dict[str, Any]]

    def unit(self, seed: int | None) -> "Search":
        """Return the part that is one seed's, with all of the earlier winners' runs; None is the whole search."""
        if seed is None:
            return self
        runs = [run for run in self.runs if run["seed"] == seed or not run["winner"]]
        return Search(self.points[self.points["seed"] == seed], runs)


class Curve(NamedTuple):
    """Accuracies at increasing energies, both [N], with the number of final runs that they are means of."""

    energy: Floats
    accuracy: Floats
    runs: int

    def at(self, energy: float) -> float:
        """Return the accuracy at an energy on the curve."""
        return float(np.interp(energy, self.energy, self.accuracy))


def verdicts(
    anytime: pd.DataFrame, compared: Iterable[tuple[str, str]] | None = None, margin: float = compare.MARGIN
) -> pd.DataFrame:
    """Return a row for each comparison a − b at equal energy and each rule, over all data sets and on each of them.

    `energy_nj` is the mean over units of the energy at which they are compared, from `energy_low` to `energy_high`;
    `accuracy_a` and `accuracy_b` are the means there. The others are as `analysis.compare.verdicts` has them: `p` is
    adjusted by Holm over the comparisons of a data set with both rules. Comparisons without a common energy are left
    out.

    Args:
        anytime: rows with `arm`, `seed`, `rule`, `at`, `accuracy` and `energy_nj`; `question`, `dataset`, `sweep`,
            `replicate`, `trial`, `look`, `at_most`, `images` and `winner` are used where there are any.
        compared: pairs of arms; `analysis.arms.comparisons` of all arms by default.
        margin: half width of the range that counts as equivalent.
    """
    units = pd.DataFrame([unit for found in _compared(anytime, compared) if _common(found) for unit in found])
    if not len(units):
        return pd.DataFrame(columns=list(COLUMNS))
    pairs = list(dict.fromkeys(zip(units["rule"], units["a"], units["b"], strict=True)))
    names = [(_BETWEEN.join((*pair, "a")), _BETWEEN.join((*pair, "b"))) for pair in pairs]
    found = compare.verdicts(_two_arms(units), names, margin=margin)
    made = [_row(row, units) for row in records(found) if row["n"]]
    return pd.DataFrame(made, columns=list(COLUMNS))


def without_common_energy(anytime: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Return data set and arms of the comparisons that have no verdict: some pair has no energy in common."""
    apart = [found[0] for found in _compared(anytime, None) if found and not _common(found)]
    return list(dict.fromkeys((unit["dataset"], unit["a"], unit["b"]) for unit in apart))


def _common(found: list[dict[str, Any]]) -> bool:
    """Return whether all units of a comparison have an energy in common."""
    return all(math.isfinite(unit["energy_nj"]) for unit in found)


def _compared(anytime: pd.DataFrame, compared: Iterable[tuple[str, str]] | None) -> Iterator[list[dict[str, Any]]]:
    """Yield the units of each comparison on each data set by each rule."""
    rows = _complete(anytime)
    chosen = list(compared) if compared is not None else comparisons(list(dict.fromkeys(rows["arm"])))
    yield from _units(rows, chosen)


def _complete(anytime: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that have values, with every column that is used."""
    rows = anytime.copy()
    for name, value in _OTHERWISE.items():
        if name not in rows:
            rows[name] = value
    return rows.dropna(subset=["at", "accuracy", "energy_nj"])


def _units(rows: pd.DataFrame, compared: list[tuple[str, str]]) -> Iterator[list[dict[str, Any]]]:
    """Yield the units of each comparison, data set and rule."""
    for (question, dataset, rule), part in rows.groupby(["question", "dataset", "rule"], sort=False):
        searches = _searches(part)
        for a, b in compared:
            both = [key[:2] for key in searches if key[2] == a and (*key[:2], b) in searches]
            several = len(both) > 1
            found = []
            for sweep, replicate in both:
                sides = searches[sweep, replicate, a], searches[sweep, replicate, b]
                place = {"question": question, "dataset": dataset, "sweep": sweep, "replicate": replicate}
                found += [{**place, "rule": rule, "a": a, "b": b, **unit} for unit in _pairs(*sides, whole=several)]
            yield found


def _searches(rows: pd.DataFrame) -> dict[Any, Search]:
    """Return the searches of a data set, by sweep, replicate and arm, that have rows of their winner."""
    found = {}
    for key, part in rows.groupby(["sweep", "replicate", "arm"], sort=False):
        points = part[part["winner"].astype(bool)]
        if len(points):
            found[key] = Search(points, records(part[_OF_RUN].drop_duplicates()))
    return found


def _pairs(of_a: Search, of_b: Search, whole: bool) -> Iterator[dict[str, Any]]:
    """Yield energy, accuracies and final runs of the units of two searches in one replicate.

    The energy is NaN where the two have none in common. `whole` searches are one unit.
    """
    for seed in [None] if whole else sorted(set(of_a.points["seed"]) & set(of_b.points["seed"])):
        sides = of_a.unit(seed), of_b.unit(seed)
        first, second = (_curve(side.points) for side in sides)
        energy = min(first.energy[-1], second.energy[-1])
        if energy < max(first.energy[0], second.energy[0]):
            energy = math.nan
        yield {"energy_nj": float(energy), "accuracy_a": first.at(energy), "accuracy_b": second.at(energy),
               "runs": min(first.runs, second.runs), "runs_a": sides[0].runs, "runs_b": sides[1].runs}  # fmt: skip


def _curve(rows: pd.DataFrame) -> Curve:
    """Return the curve through the points of some final runs: their means for each number of steps, or confidence."""
    means = rows.groupby("at")[["energy_nj", "accuracy"]].mean().groupby("energy_nj")["accuracy"].mean()
    return Curve(means.index.to_numpy(dtype=float), means.to_numpy(dtype=float), rows["seed"].nunique())


def _two_arms(units: pd.DataFrame) -> pd.DataFrame:
    """Return the units as final runs of two arms for each comparison and rule, as `compare.verdicts` takes them.

    Each final run of a unit has the unit's accuracy, so that the looks are those of the final runs.
    """
    rows = []
    for unit in records(units):
        place = {key: unit[key] for key in ("question", "dataset", "sweep", "replicate")}
        for side in ("a", "b"):
            arm = _BETWEEN.join((unit["rule"], unit["a"], unit["b"], side))
            rows += [{**place, "arm": arm, "test": unit[f"accuracy_{side}"], **run} for run in unit[f"runs_{side}"]]
    return pd.DataFrame(rows)


def _row(verdict: Mapping[str, Any], units: pd.DataFrame) -> dict[str, Any]:
    rule, a, b, _ = str(verdict["a"]).split(_BETWEEN)
    own = units[(units["rule"] == rule) & (units["a"] == a) & (units["b"] == b)]
    if verdict["dataset"] in set(own["dataset"]):
        own = own[own["dataset"] == verdict["dataset"]]
    energies = own["energy_nj"]
    about = {"rule": rule, "a": a, "b": b, "energy_nj": energies.mean(), "energy_low": energies.min(),
             "energy_high": energies.max(), "accuracy_a": own["accuracy_a"].mean(),
             "accuracy_b": own["accuracy_b"].mean()}  # fmt: skip
    seeds = int(own["runs"].min()) if verdict["unit"] == "search" else int(verdict["seeds"])
    return {name: verdict.get(name) for name in COLUMNS} | about | {"seeds": seeds}
