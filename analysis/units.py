"""The units of a comparison: searches where there are several, else the fresh seeds of the two winners.

A winner's final runs say how good that winner is; another search of the same arm would have found another winner. A
claim about arms is therefore made on searches: of each, the mean over its winner's final runs, paired by replicate, in
which the arms have the same data split and teachers. With one search of each arm only the two winners can be compared,
on their fresh seeds.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from analysis.looks import Look, grown
from analysis.statistics import Floats

Unit = Literal["search", "seed"]
Search = tuple[Any, ...]
"""A sweep and a replicate in it."""
OVERALL = "overall"
"""The `dataset` of a verdict over all data sets."""
NOT_KNOWN = 0
"""The look of final runs of which it is not known: they count as planned, and as looked at once."""
Group = tuple[str, str]
"""A question and a data set: what its searches have in common."""


@dataclass(slots=True)
class FinalRuns:
    """A winner's final runs: score by seed, and the look at which each was first complete.

    `right` says which test images each classified correctly, as text, where that is known. `earlier` has the looks of
    the final runs of the search's earlier winners, by trial and seed: their scores count no more, but verdicts on them
    could be seen. `draw` is what the search was drawn with, the same for searches on other data sets that used the same
    random numbers. `at_most` is how many replicates the sweep was to have at most when it first looked at any of these
    final runs, 0 where it does not look after each.
    """

    scores: dict[int, float]
    looks: dict[int, int]
    at_most: int = 0
    right: dict[int, str] = field(default_factory=dict)
    earlier: dict[tuple[int, int], int] = field(default_factory=dict)
    draw: str = ""

    @property
    def mean(self) -> float:
        """The mean score over seeds."""
        return math.fsum(self.scores.values()) / len(self.scores)


Searches = dict[Search, dict[str, FinalRuns]]
"""Of one group: search → arm → its winner's final runs."""


def groups(verified: pd.DataFrame, score: str) -> dict[Group, Searches]:
    """Return the winners' final runs by group and search. Several of one arm and seed are averaged.

    Args:
        verified: rows with `arm`, `seed` and `score`; the columns `question`, `dataset`, `sweep`, `replicate`, `trial`,
            `look`, `at_most`, `right`, `winner` and `draw` are used where there are any. Rows that are not the
            winner's are those of its search's earlier winners.
        score: a column; rows where it is missing are left out.
    """

    def column(name: str, otherwise: Any) -> Any:
        return verified[name].tolist() if name in verified else [otherwise] * len(verified)

    names = ("question", ""), ("dataset", ""), ("sweep", ""), ("replicate", 0), ("look", NOT_KNOWN), ("winner", True)
    more = ("at_most", 0), ("right", None), ("trial", 0), ("draw", "")
    columns = (column(name, otherwise) for name, otherwise in (*names, *more))
    rows = zip(*columns, *(verified[name].tolist() for name in ("arm", "seed", score)), strict=True)
    found: dict[Group, Searches] = {}
    repeated: dict[tuple[Group, Search, str, int], list[float]] = {}
    for question, dataset, sweep, replicate, look, won, most, right, trial, draw, arm, seed, value in rows:
        if not math.isfinite(value):
            continue
        group, search, seed = (str(question), str(dataset)), (sweep, int(replicate)), int(seed)
        runs = found.setdefault(group, {}).setdefault(search, {}).setdefault(arm, FinalRuns({}, {}))
        runs.draw = draw if isinstance(draw, str) and draw else f"{sweep}, {replicate}"
        runs.at_most = max(runs.at_most, int(most))
        if not won:
            key = int(trial), seed
            runs.earlier[key] = max(int(look), runs.earlier.get(key, NOT_KNOWN))
            continue
        if isinstance(right, str):
            runs.right[seed] = right
        if seed in runs.scores:
            values = repeated.setdefault((group, search, arm, seed), [runs.scores[seed]])
            values.append(float(value))
            value = float(np.mean(values))
        runs.scores[seed], runs.looks[seed] = float(value), max(int(look), runs.looks.get(seed, 0))
    return _with_winners(found)


def _with_winners(found: Mapping[Group, Searches]) -> dict[Group, Searches]:
    """Return the groups, searches and arms that have final runs of a present winner."""
    kept: dict[Group, Searches] = {}
    for group, searches in found.items():
        for search, arms in searches.items():
            for arm, runs in arms.items():
                if runs.scores:
                    kept.setdefault(group, {}).setdefault(search, {})[arm] = runs
    return kept


class AtLook(NamedTuple):
    """What there was at a look: units, final runs (see `_own`), and the planned number of units (`Look.most`)."""

    units: int
    runs: int
    most: int = 0


@dataclass(frozen=True, slots=True)
class Paired:
    """A comparison a − b in one group.

    Attributes:
        unit: what `a` and `b` are scores of.
        a, b: scores of the paired units.
        names: of the units: the searches, or the seeds.
        draws: of the units, see `FinalRuns.draw`: units of the same draw depend on each other, also on other data sets.
        runs_a, runs_b: the final runs of each paired search.
        unpaired: units that only one arm has.
        looks: what there was at each look, by the look's number.
    """

    unit: Unit
    a: Floats
    b: Floats
    names: tuple[Any, ...]
    draws: tuple[str, ...]
    runs_a: tuple[FinalRuns, ...]
    runs_b: tuple[FinalRuns, ...]
    unpaired: int
    looks: Mapping[int, AtLook]

    @property
    def differences(self) -> Floats:
        """Of the paired units."""
        return self.a - self.b

    @property
    def seeds(self) -> int:
        """The fewest final runs of a winner; of one search, those that are paired."""
        if self.unit == "seed":
            return len(self.a)
        return min(len(runs.scores) for runs in (*self.runs_a, *self.runs_b))

    @property
    def within(self) -> float:
        """The part of the differences' variance that is the seeds', NaN where no winner has two final runs."""
        known = [_variance(a) + _variance(b) for a, b in zip(self.runs_a, self.runs_b, strict=True)]
        known = [variance for variance in known if math.isfinite(variance)]
        return float(np.mean(known)) if known else math.nan


def pair(searches: Searches, a: str, b: str) -> Paired:
    """Return the comparison a − b on the searches that both arms have, or on the seeds of the only one."""
    both = {name: (arms[a], arms[b]) for name, arms in searches.items() if a in arms and b in arms}
    either = sum(1 for arms in searches.values() if (a in arms) != (b in arms))
    runs_a, runs_b = tuple(of_a for of_a, _ in both.values()), tuple(of_b for _, of_b in both.values())
    if len(both) == 1:
        of_a, of_b = runs_a[0], runs_b[0]
        seeds = sorted(of_a.scores.keys() & of_b.scores.keys())
        unpaired = len(of_a.scores.keys() ^ of_b.scores.keys())
        scores = np.array([[of_a.scores[seed], of_b.scores[seed]] for seed in seeds]).reshape(-1, 2)
        at = [max(of_a.looks[seed], of_b.looks[seed]) for seed in seeds]
        paired = {look: _until(at, look) for look in sorted(set(at))}
        counts = _own(_of_seeds(of_a, seeds), _of_seeds(of_b, seeds), paired)
        looks = {look: AtLook(count, count) for look, count in counts.items()}
        drawn = tuple(map(str, seeds))
        return Paired("seed", scores[:, 0], scores[:, 1], tuple(seeds), drawn, runs_a, runs_b, unpaired, looks)
    means_a, means_b = (np.array([runs.mean for runs in side]) for side in (runs_a, runs_b))
    drawn = tuple(runs.draw for runs in runs_a)
    return Paired("search", means_a, means_b, tuple(both), drawn, runs_a, runs_b, either, _at_looks(both))


def units_at_looks(parts: list[Paired]) -> tuple[Look, ...]:
    """Return the looks at which there were more units than before, over all parts.

    More final runs of the same searches count like more searches, in proportion, and so do those of other winners of
    the same searches. Empty where no look is known.
    """
    totals = []
    for number in sorted({look for part in parts for look in part.looks} - {NOT_KNOWN}):
        known = [part.looks[max(at)] for part in parts if (at := [look for look in part.looks if look <= number])]
        totals.append(_total(known))
    totals = [at for at in totals if at.units >= 2]
    return grown(Look(max(at.units, totals[0].units * at.runs / totals[0].runs), at.most) for at in totals)


def _total(known: list[AtLook]) -> AtLook:
    """Return the sums over parts; there is a plan only where all parts have one."""
    units, runs, most = (sum(column) for column in zip(*known, strict=True))
    return AtLook(units, runs, most if all(at.most for at in known) else 0)


def _at_looks(both: Mapping[Search, tuple[FinalRuns, FinalRuns]]) -> dict[int, AtLook]:
    """Return the searches and their final runs at each look at which there were two searches."""
    found = {}
    own = {name: _own(a, b, _paired(a, b)) for name, (a, b) in both.items()}
    for number in sorted({look for counts in own.values() for look in counts}):
        pairs = {name: max((counts[at] for at in counts if at <= number), default=0) for name, counts in own.items()}
        seen = [name for name, count in pairs.items() if count]
        if len(seen) < 2:
            continue
        plans: dict[Any, int] = {}
        for name in seen:
            plans[name[0]] = max(plans.get(name[0], 0), both[name][0].at_most)
        found[number] = AtLook(len(seen), sum(pairs.values()), sum(plans.values()) if all(plans.values()) else 0)
    return found


def _of_seeds(runs: FinalRuns, seeds: Iterable[int]) -> FinalRuns:
    """Return final runs with the looks of these seeds alone."""
    return replace(runs, looks={seed: runs.looks[seed] for seed in seeds})


def _paired(a: FinalRuns, b: FinalRuns) -> dict[int, int]:
    """Return the winners' paired final runs up to each look: as many as the arm with fewer has."""
    looks = a.looks.values(), b.looks.values()
    return {number: min(_until(one, number) for one in looks) for number in sorted({*looks[0], *looks[1]})}


def _own(a: FinalRuns, b: FinalRuns, paired: Mapping[int, int]) -> dict[int, int]:
    """Return the final runs of two searches up to each look, by its number.

    Args:
        a, b: of the searches.
        paired: those up to each look that are paired, of the present winners alone.

    Where an arm has had another winner, each look has the new final runs of whichever arm has more of them, over all
    winners. So each change of a winner is a look with more information, although the present winners' paired final
    runs are as many as before, and the looks before the change stay what they were.
    """
    if not (a.earlier or b.earlier):
        return dict(paired)
    new_a, new_b = (Counter([*runs.looks.values(), *runs.earlier.values()]) for runs in (a, b))
    numbers = sorted(new_a | new_b)
    return dict(zip(numbers, accumulate(max(new_a[look], new_b[look]) for look in numbers), strict=True))


def _until(looks: Iterable[int], look: int) -> int:
    return sum(1 for other in looks if other <= look)


def _variance(runs: FinalRuns) -> float:
    """Return the variance of a winner's mean."""
    n, mean = len(runs.scores), runs.mean
    return math.fsum((score - mean) ** 2 for score in runs.scores.values()) / (n - 1) / n if n > 1 else math.nan


def arms_of(found: Mapping[Group, Searches]) -> Iterator[str]:
    """Yield every arm once, in the order of their first final runs."""
    yield from dict.fromkeys(arm for searches in found.values() for arms in searches.values() for arm in arms)
