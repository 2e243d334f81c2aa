"""Verdicts on verified results: which arm is better, by how much, and with what certainty.

The unit is the search where an arm has several on a data set, else the fresh seed of its only winner (see
`analysis.units`). One test and one interval, Student's t on the paired differences of units; the exact sign-flip test
stands beside it.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.arms import comparisons
from analysis.disagreement import disagreement_error
from analysis.looks import Look, levels
from analysis.statistics import (
    TINY,
    Floats,
    TTest,
    far_from_rest,
    holm,
    image_error,
    iqm,
    prob_improvement,
    prob_interval,
    sign_flip,
    t_test,
)
from analysis.units import OVERALL, Group, Paired, Searches, arms_of, groups, pair, units_at_looks
from supersnn.errors import UserError

MARGIN = 0.003
"""Differences up to this fraction count as equivalent: ±0.3 points."""
ALPHA = 0.05
EQUIVALENT_FROM = 5
"""Units from which two arms may be called equivalent."""
COLUMNS = (
    "dataset", "a", "b", "difference", "low", "high", "p", "prob_improvement", "equivalent", "verdict", "unit", "n",
    "seeds", "datasets", "sd", "se", "freedom", "search_sd", "seed_sd", "image_se", "images_known", "iqm", "p_raw",
    "p_flip", "p_floor", "p_error", "look", "prob_low", "prob_high", "unpaired", "collapsed", "far", "without_far",
    "sweeps",
)  # fmt: skip


def verdicts(
    verified: pd.DataFrame,
    compared: Iterable[tuple[str, str]] | None = None,
    *,
    score: str = "test",
    margin: float = MARGIN,
    level: float = 0.95,
) -> pd.DataFrame:
    """Return a row for each comparison a − b, in the order of `compared`: over all data sets, then on each of them.

    With two searches or more of both arms on a data set, `unit` is "search": a difference is that of the means over the
    two winners' fresh seeds, paired by replicate. With one search it is "seed", paired by seed: the verdict is about
    two winners, and the searches' own luck is not in it. `n` counts the paired units, `seeds` the fewest final runs of
    a winner, `unpaired` units that only one arm has.

    `difference` with `low` and `high` is the mean with Student's interval of each comparison by itself, from the second
    look on, or where a sweep looks after each replicate, that of all looks together (`level_at`); `p_raw` is the p
    value of the same t, `se` its standard error and `freedom` its degrees of freedom. `p` is adjusted by Holm over the
    comparisons of a data set, and for the number of looks (see `analysis.looks`; this is look number `look`). `p_flip`
    is the exact sign-flip test's, not adjusted, `p_floor` the smallest that it can reach with so many units, `p_error`
    its sampling error. The rows with `dataset` "overall" take the data sets as fixed: the mean of their differences,
    the variance from the searches only. A replicate's searches on several data sets use the same random numbers and are
    one draw of both tests (`statistics.t_test`). These rows are made of the data sets with several searches, of which
    `datasets` is the number.

    `sd` is the standard deviation of the differences; its parts are `search_sd`, the searches', and `seed_sd`, the
    final runs' (of their means). `image_se` is the standard error that the sampling of the test images
    explains, which is in no interval: from the images on which the arms disagree (`images_known`), else the largest
    that it can be. `prob_improvement` counts all pairs of units, with the interval `prob_low` to
    `prob_high`. `equivalent` is true where the 90 % interval lies within ± `margin` (two one-sided tests at 5 %), there
    are at least `EQUIVALENT_FROM` units, and they differ by at least a test image. `verdict` is one of "better",
    "worse", "equivalent", "no difference found", "too few searches", "too few seeds", "no pairs". `collapsed`: all of
    three or more differences are equal, to a test image; `far` is the unit whose difference is far from the others'
    (see `far_from_rest`, and by more than the margin), `without_far` the difference without it.

    Args:
        verified: rows with `arm`, `seed` and `score`, of one data set or several (`dataset`), of one search of each
            arm or several (`sweep`, `replicate`); with a column `winner`, winners' scores count, and of all others (by
            `trial`) that they were looked at. `images` has the number of images that a row was tested on, `look` the
            look at which it was first complete, `at_most` the replicates of a sweep that looks after each. Rows with
            another `question` are compared apart. `draw` says which searches on several data sets depend on each
            other, without it those of a sweep's replicate.
        compared: pairs of arms; `analysis.arms.comparisons` of all arms by default.
        score: the column that is compared, a fraction.
        margin: half width of the range that counts as equivalent.
        level: of the interval.

    Raises:
        UserError: an arm of `compared` has no results.
    """
    found = groups(verified, score)
    names = list(arms_of(found))
    chosen = list(compared) if compared is not None else comparisons(names)
    if missing := [arm for pair in chosen for arm in pair if arm not in names]:
        raise UserError(f"arm {missing[0]!r} has no verified results; known: {', '.join(names) or 'none'}")
    judge = _Judge(margin, level, _images(verified))
    rows: list[dict[str, Any]] = []
    questions: dict[str, dict[Group, Searches]] = {}
    for group, searches in found.items():
        questions.setdefault(group[0], {})[group] = searches
    for own in questions.values():
        present = set(arms_of(own))
        asked = [pair for pair in chosen if compared is not None or present.issuperset(pair)]
        paired = {group: [pair(searches, *names) for names in asked] for group, searches in own.items()}
        families = [judge.over(asked, paired)] if len(own) > 1 else []
        families += [judge.on(group, asked, own[group], pairs) for group, pairs in paired.items()]
        for family in families:
            _adjust(family)
            rows += family
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _images(verified: pd.DataFrame) -> dict[Group, float]:
    """Return the number of test images by group, where it is known."""
    if "images" not in verified:
        return {}
    columns = [verified[name] if name in verified else [""] * len(verified) for name in ("question", "dataset")]
    known: dict[Group, float] = {}
    for question, dataset, count in zip(*columns, verified["images"], strict=True):
        if count > 0:
            group = (str(question), str(dataset))
            known[group] = min(float(count), known.get(group, math.inf))
    return known


class _Judge:
    """Compares arms by the same rules."""

    def __init__(self, margin: float, level: float, images: Mapping[Group, float]) -> None:
        self._margin, self._level, self._images = margin, level, images

    def on(
        self, group: Group, compared: Sequence[tuple[str, str]], searches: Searches, pairs: Sequence[Paired]
    ) -> list[dict[str, Any]]:
        """Return the rows of one data set, before the adjustment for one another."""
        rows = []
        for (a, b), part in zip(compared, pairs, strict=True):
            sweeps = dict.fromkeys(str(sweep) for (sweep, _), arms in searches.items() if {a, b} <= arms.keys())
            rows.append(
                self._row(group[1], a, b, [part], [self._images.get(group, 0.0)]) | {"sweeps": ", ".join(sweeps)}
            )
        return rows

    def over(
        self, compared: Sequence[tuple[str, str]], paired: Mapping[Group, Sequence[Paired]]
    ) -> list[dict[str, Any]]:
        """Return the rows over all data sets on which both arms have several searches."""
        rows = []
        for position, (a, b) in enumerate(compared):
            parts = {group: pairs[position] for group, pairs in paired.items() if len(pairs[position].a)}
            several = {group: part for group, part in parts.items() if part.unit == "search"}
            if len(several) > 1:
                images = [self._images.get(group, 0.0) for group in several]
                rows.append(self._row(OVERALL, a, b, list(several.values()), images))
        return rows

    def _row(self, dataset: str, a: str, b: str, parts: list[Paired], images: list[float]) -> dict[str, Any]:
        """Return one comparison over the given data sets."""
        unit, n = parts[0].unit, sum(len(part.a) for part in parts)
        row: dict[str, Any] = dict.fromkeys(COLUMNS, np.nan)
        row |= {"dataset": dataset, "a": a, "b": b, "unit": unit, "n": n, "datasets": len(parts), "seeds": 0,
                "equivalent": False, "verdict": "no pairs", "unpaired": sum(part.unpaired for part in parts),
                "collapsed": False, "images_known": False, "far": None, "sweeps": "", "look": 1}  # fmt: skip
        if not n:
            return row
        values = [part.differences for part in parts]
        pixel = [1 / count if count else 0.0 for count in images]
        looks = units_at_looks(parts)
        test = t_test(values, level_at(looks, self._level), pixel, [part.draws for part in parts])
        narrow = test.at(level_at(looks, 1 - 2 * ALPHA))
        sds = np.array([part.std(ddof=1) if len(part) > 1 else np.nan for part in values])
        spread = len(values[0]) > 1 and bool((sds >= np.array(pixel)).all())
        enough = min(map(len, values)) >= EQUIVALENT_FROM and spread
        within = -self._margin < narrow.low and narrow.high < self._margin
        flip = sign_flip(_by_draw(parts))
        alone = len(parts) == 1
        chance = prob_interval(parts[0].a, parts[0].b, self._level) if alone else (np.nan, np.nan)
        errors = [disagreement_error(part) for part in parts]
        images_known = all(map(math.isfinite, errors))
        if not images_known:
            errors = [image_error(one.a.mean(), one.b.mean(), count) for one, count in zip(parts, images, strict=True)]
        return row | {
            **_of_test(test),
            **_components(parts, sds),
            "prob_improvement": float(np.mean([prob_improvement(part.a, part.b) for part in parts])),
            "prob_low": float(chance[0]),
            "prob_high": float(chance[1]),
            "equivalent": bool(enough and within),
            "verdict": f"too few {unit}es" if unit == "search" else f"too few {unit}s",
            "seeds": min(part.seeds for part in parts),
            "image_se": float(np.sqrt(np.sum(np.square(errors))) / len(errors)),
            "images_known": images_known,
            "iqm": float(np.mean([iqm(part) for part in values])),
            "p_flip": float(flip.p),
            "p_floor": flip.floor,
            "p_error": float(flip.error),
            "look": max(1, len(looks)),
            "collapsed": alone and n > 2 and bool(sds[0] < max(pixel[0], TINY)),
            "_looks": looks,
            "_few": n < 2 * len(parts) or test.freedom <= 0 or bool(within and not enough),
            **(_far(values[0], parts[0].names, self._margin) if alone else {}),
        }


def _by_draw(parts: list[Paired]) -> Floats:
    """Return what each draw contributes to the mean of the data sets' mean differences."""
    if len(parts) == 1:
        return parts[0].differences
    found: dict[str, float] = {}
    for part in parts:
        for draw, difference in zip(part.draws, part.differences, strict=True):
            found[draw] = found.get(draw, 0.0) + float(difference) / (len(parts) * len(part.differences))
    return np.array(list(found.values()))


def _of_test(test: TTest) -> dict[str, float]:
    return {"difference": test.estimate, "low": test.low, "high": test.high, "p_raw": test.p, "se": test.error,
            "freedom": test.freedom}  # fmt: skip


def _components(parts: list[Paired], sds: Floats) -> dict[str, float]:
    """Return the standard deviation of the differences, and what the searches and their final runs have in it."""
    sd = float(np.sqrt(np.mean(sds**2)))
    if parts[0].unit == "seed":
        return {"sd": sd, "seed_sd": sd}
    within = float(np.mean([part.within for part in parts]))
    return {"sd": sd, "seed_sd": math.sqrt(within) if within >= 0 else np.nan,
            "search_sd": math.sqrt(max(0.0, sd**2 - within)) if math.isfinite(sd + within) else np.nan}  # fmt: skip


def _far(values: Floats, names: Sequence[Any], margin: float) -> dict[str, Any]:
    """Return the unit whose difference is far from the others', and the difference without it."""
    position = far_from_rest(values)
    if position is None:
        return {}
    rest = np.delete(values, position)
    if abs(values[position] - rest.mean()) <= margin:
        return {}
    return {"far": name_of(names[position]), "without_far": float(rest.mean())}


def name_of(unit: Any) -> str:
    """Return a seed or a search, a sweep and a replicate, as text."""
    return f"{unit[0]}, replicate {unit[1]}" if isinstance(unit, tuple) else str(unit)


def _adjust(rows: list[dict[str, Any]]) -> None:
    """Adjust the p values of a data set's comparisons for one another and for earlier looks; fill in the verdicts."""
    tested = [row for row in rows if row["n"]]
    each = ALPHA / max(1, len(tested))
    raw = [min(1.0, row["p_raw"] * _factor(row.pop("_looks"), each)) for row in tested]
    for row, p in zip(tested, holm(raw), strict=True):
        row["p"] = float(p)
        row["verdict"] = _word(row, bool(row.pop("_few")))


def level_at(looks: tuple[Look, ...], level: float) -> float:
    """Return the level of an interval at the last look, so that those of all looks together have the given one.

    Where the first look was the only one, and was not one of a plan, it is that level itself.
    """
    planned = len(looks) > 1 or (looks and looks[0].most)
    return 1 - levels(looks, round(1 - level, 12))[-1] if planned else level


def _factor(looks: tuple[Look, ...], alpha: float) -> float:
    """Return by how much a p value grows because the looks share the error rate."""
    return alpha / levels(looks, alpha)[-1] if looks else 1.0


def _word(row: Mapping[str, Any], few: bool) -> str:
    """Return the verdict; `few`: there are too few units for one. It is filled in with the word for that."""
    if row["p"] < ALPHA:
        return "better" if row["difference"] > 0 else "worse"
    if row["equivalent"]:
        return "equivalent"
    return str(row["verdict"]) if few else "no difference found"


def one_search(verified: pd.DataFrame, margin: float = MARGIN) -> pd.DataFrame:
    """Return the verdicts of each search alone, as `verdicts` would have given them, with `sweep` and `replicate`."""
    parts = []
    for (sweep, replicate), part in verified.groupby(["sweep", "replicate"], sort=False):
        alone = verdicts(part, margin=margin)
        parts.append(alone.assign(sweep=str(sweep), replicate=int(str(replicate))))
    return pd.concat(parts, ignore_index=True) if parts else verdicts(verified, [], margin=margin)


def uneven(mean: float, middle: float, error: float) -> bool:
    """Return whether an interquartile mean differs from the mean by more than the standard error, if that is known."""
    return bool(math.isfinite(error) and abs(mean - middle) > max(error, TINY))


def arms(verified: pd.DataFrame, score: str = "test", level: float = 0.95) -> pd.DataFrame:
    """Return a row for each arm on each data set: `n`, `mean`, `low`, `high` (Student's interval), `iqm`, `sd`, `se`.

    The unit is the search, of which `searches` is the number, or the seed where there is one search (`unit`); `n`
    counts units, `runs` final runs. `shrinkage` is the search's value less the mean validation accuracy of the fresh
    seeds, over searches: the selection bias (winner's curse) of the winner's score.
    """
    rows = verified[verified["winner"].astype(bool)] if "winner" in verified else verified
    rows = rows.dropna(subset=[score])
    keys = [name for name in ("question", "dataset") if name in rows]
    search = [name for name in ("sweep", "replicate") if name in rows]
    summaries = []
    for key, part in rows.groupby([*keys, "arm"], sort=False):
        groups = part.groupby(search, sort=False) if search else [((), part)]
        winners = [group for _, group in groups]
        several = len(winners) > 1
        values = np.array([group[score].mean() for group in winners]) if several else part[score].to_numpy()
        test = t_test([values], level)
        bias = [group["search_value"].iloc[0] - group["val"].mean() for group in winners]
        summaries.append({
            **dict(zip([*keys, "arm"], key, strict=True)), "unit": "search" if several else "seed",
            "searches": len(winners), "n": len(values), "runs": len(part), "mean": values.mean(), "low": test.low,
            "high": test.high, "iqm": float(iqm(values)), "sd": values.std(ddof=1) if len(values) > 1 else np.nan,
            "se": test.error, "shrinkage": float(np.mean(bias)),
        })  # fmt: skip
    names = [*keys, "arm", "unit", "searches", "n", "runs", "mean", "low", "high", "iqm", "sd", "se", "shrinkage"]
    return pd.DataFrame(summaries, columns=names)
