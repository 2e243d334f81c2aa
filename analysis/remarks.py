"""What to know when reading an answer: its looks, its luck, its components of variance, and its test images."""

from collections.abc import Iterator
from itertools import combinations

import numpy as np

from analysis.answers import Answer
from analysis.equal_energy import without_common_energy
from analysis.planning import POWER, detectable
from analysis.sentences import listed, percent, place, signed
from analysis.tables import collect, records
from analysis.units import OVERALL


def remarks(answer: Answer) -> list[str]:
    """Return the sentences."""
    return [
        *_copies(answer),
        *_same_seed(answer),
        *_looks(answer),
        *_until(answer),
        *_data_sets(answer),
        *_one_search(answer),
        *_luck(answer),
        *_components(answer),
        *_images(answer),
        *_energies(answer),
    ]


def _energies(answer: Answer) -> Iterator[str]:
    """Say which comparisons have no verdict at equal energy."""
    apart = without_common_energy(collect(answer.sweeps).anytime)
    if apart:
        several = len({dataset for dataset, _, _ in apart}) > 1
        pairs = listed(f"{a} − {b}{f' on {dataset}' if several else ''}" for dataset, a, b in apart)
        yield f"No verdict at equal energy for {pairs}: not all of their searches spend a common energy at any step."


def _copies(answer: Answer) -> Iterator[str]:
    for copy, original in answer.copies.items():
        yield f"{copy} has the same final runs as {original}: it is left out, since a copy is no replicate."


def _same_seed(answer: Answer) -> Iterator[str]:
    """Warn of sweeps whose seeds are equal: the same start-up trials and training seeds."""
    for one, other in combinations(answer.sweeps, 2):
        same = one.config.get("seed") == other.config.get("seed")
        if same and set(one.datasets) & set(other.datasets):
            yield (f"{one.name} and {other.name} have the same seed, so their searches began with the same trials: "
                   "they differ less than replicates do. Give each sweep its own `seed`.")  # fmt: skip


def _looks(answer: Answer) -> Iterator[str]:
    """Say which look it is, where it is not the first, nor one of the looks of `_until` at a sweep alone."""
    looks = int(answer.verdicts["look"].max()) if len(answer.verdicts) else 1
    several = len(answer.sweeps) > 1
    if looks > 1 and (several or not any(sweep.state.looks for sweep in answer.sweeps)):
        yield (f"This is look {looks} at these results: {'sweeps or ' if several else ''}final runs were added after a "
               "verdict could be seen. The error rate of 5 % is shared by all looks, so that a later one needs a "
               "smaller p and a wider interval; the figures above are adjusted for it.")  # fmt: skip


def _until(answer: Answer) -> Iterator[str]:
    """Say whether a sweep that adds replicates until the differences are known well enough has come to that."""
    for sweep in answer.sweeps:
        if not sweep.state.looks:
            continue
        last = sweep.state.looks[-1]
        aim, place = f"±{100 * last.until:g} points", f" on {last.dataset}" if last.dataset else ""
        known = "no interval yet" if last.half_width is None else f"±{percent(last.half_width)} points"
        widest = f"{known} of {last.a} − {last.b}{place}" if last.a else known
        reached = last.half_width is not None and last.half_width <= last.until
        end = "" if reached else ", and one is added" if last.next > last.replicates else ", where it has ended"
        yield (f"{sweep.name} adds replicates, at most {last.at_most}, until the widest interval is {aim}: with "
               f"{last.replicates} it is {widest}{end}. Intervals and p values hold for all its looks "
               "together.")  # fmt: skip


def _data_sets(answer: Answer) -> Iterator[str]:
    """Say why there is no verdict over all data sets, where there is none."""
    on = answer.verdicts[answer.verdicts["dataset"].ne(OVERALL) & (answer.verdicts["n"] > 0)]
    single = list(dict.fromkeys(on.loc[on["unit"].eq("seed"), "dataset"]))
    if on["dataset"].nunique() > 1 and single:
        yield (f"Verdicts over the data sets need two searches of each arm on each of them; left out, with one: "
               f"{listed(single)}.")  # fmt: skip


def _one_search(answer: Answer) -> Iterator[str]:
    """Say what one search alone would have said, for the first comparison on each data set."""
    several = answer.one_search["dataset"].nunique() > 1
    for row in records(answer.one_search.drop_duplicates("dataset")):
        where = place(row | {"datasets": 1}) if several else ""
        yield (f"{row['a']} − {row['b']}{where}: one search alone would have said better in {row['better']}, worse in "
               f"{row['worse']} and neither in {row['neither']} of {row['searches']} cases, with differences from "
               f"{signed(row['least'])} to {signed(row['greatest'])} points.")  # fmt: skip


def _luck(answer: Answer) -> Iterator[str]:
    """Estimate the luck of one search from its own trials."""
    several = answer.luck["dataset"].nunique() > 1
    parts = [
        f"{signed(row['low'])} to {signed(row['high'])} points for {row['a']} − {row['b']}"
        + (place(row | {"datasets": 1}) if several else "")
        for row in records(answer.luck)
    ]
    if parts:
        yield (f"Estimate of the search's luck: another search of this size might have found {listed(parts)} of "
               "validation accuracy (95 % of searches among whose trials these were drawn again; too narrow, "
               "since it knows no other trials). Replicates measure it: `replicates` in the sweep file, or the same "
               "file with other seeds.")  # fmt: skip


def _components(answer: Answer) -> Iterator[str]:
    """Say how much of the variance is the searches', and what that means for planning."""
    for dataset, part in answer.components.groupby("dataset", sort=False):
        sds = dict(zip(part["component"], part["sd"], strict=True))
        if "search" not in sds:
            continue
        where = f"On {dataset} the" if answer.components["dataset"].nunique() > 1 else "The"
        names = {"seed": "between fresh seeds of a winner", "search": "between searches of an arm",
                 "replicate": "between replicates, in all arms alike"}  # fmt: skip
        spread = listed(f"{percent(sds[name])} points {text}" for name, text in names.items() if name in sds)
        yield f"{where} test accuracy of a final run varies (standard deviation) by {spread}."
        yield from _plan(answer, str(dataset), sds)


def _plan(answer: Answer, dataset: str, sds: dict[str, float]) -> Iterator[str]:
    """Say what these searches could find, and whether more seeds or more searches help."""
    rows = [row for row in records(answer.verdicts) if row["dataset"] == dataset and row["unit"] == "search"]
    if not rows or "seed" not in sds:
        return
    searches, seeds = min(row["n"] for row in rows), min(row["seeds"] for row in rows)
    now = 2 * (sds["search"] ** 2 + sds["seed"] ** 2 / seeds)
    least = percent(detectable(now, searches, len(rows)))
    share = (sds["seed"] ** 2 / seeds) / (now / 2) if now else np.nan
    advice = "more fresh seeds would help little, more searches would" if share < 0.25 else (
        "more fresh seeds of each winner would help as well as more searches")  # fmt: skip
    yield (f"{searches} searches with {seeds} fresh seed{'s' if seeds != 1 else ''} each find a true difference of "
           f"{least} points with {100 * POWER:.0f} % power; {100 * share:.0f} % of the variance of a difference is the "
           f"seeds', so {advice} (`supersnn plan`).")  # fmt: skip


def _images(answer: Answer) -> Iterator[str]:
    """Give the sampling error of the test images beside that of the searches or seeds."""
    rows = [row for row in records(answer.verdicts) if row["dataset"] != OVERALL and np.isfinite(row["image_se"])]
    several = len({row["dataset"] for row in rows}) > 1
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        own = [row for row in rows if row["dataset"] == dataset]
        largest = max(own, key=lambda row: row["image_se"])
        images = answer.verified.loc[answer.verified["dataset"].eq(dataset), "images"].min()
        unit = "searches" if largest["unit"] == "search" else "seeds"
        beside = f", beside {percent(largest['se'])} of the {unit}" if np.isfinite(largest["se"]) else ""
        of = f" of {dataset}" if several else ""
        exact = all(row["images_known"] for row in own)
        how = "from the images on which the arms disagree" if exact else (
            "if the arms' errors are on different images; less otherwise")  # fmt: skip
        counted = "test images" if np.isnan(images) else f"{images:.0f} test images"
        yield (f"The {counted}{of} are a sample too: other images would change a difference by up to "
               f"{percent(largest['image_se'])} points (standard error, {how}){beside}. No interval here contains "
               "it.")  # fmt: skip
