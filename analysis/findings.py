"""Findings besides the answer, in sentences: cautions, equal budgets, constraints, teachers, bias, test openings."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from analysis import attempts, budget, compare, pairings, steered
from analysis.arms import CONTROL
from analysis.build import constraints
from analysis.nodes import slow
from analysis.sentences import duration, listed, number, percent, place, sentence, signed
from analysis.tables import Sweep, records, search_of
from supersnn.records.metrics import METRICS

NAMED = 6
"""Failed final runs that a sentence names; the page lists all."""


def findings(sweep: Sweep, verdicts: pd.DataFrame) -> list[str]:
    """Return the sentences below a sweep's answer."""
    return [
        *cautions(sweep, verdicts),
        *_control(verdicts),
        *_constraints(sweep),
        *_equal_budgets(sweep),
        *attempts.findings(sweep),
        *_teacher_cost(sweep),
        *_teacher_strength(sweep),
        *_shrinkage(sweep),
        *_reach(verdicts),
        *_openness(sweep),
    ]


def cautions(sweep: Sweep, verdicts: pd.DataFrame) -> list[str]:
    """Return what a reader of the numbers must know first.

    That is failed runs, winners beyond the constraints, replicates that share a warm start, favoured arms, what was
    changed while the sweep ran, uneven means, slow nodes.
    """
    return [
        *_failed_final_runs(sweep),
        *_winners_beyond(sweep),
        *_shared_warm_start(sweep),
        *steered.caution(sweep),
        *steered.changes(sweep),
        *_uneven_arms(sweep),
        *_uneven_differences(verdicts),
        *slow(sweep),
    ]


def failed_final_runs(sweep: Sweep) -> list[dict[str, Any]]:
    """Return the winners' final runs that did not train to their end: `arm`, `trial`, `seed`, `reason`, `test`."""
    runs = sweep.verified[sweep.verified["winner"] & sweep.verified["ended"].ne("finished")]
    return [
        {"arm": row["arm"], **_which(sweep, row), "trial": row["trial"], "seed": row["seed"],
         "reason": str(row["ended"]).removeprefix("failed:"), "test": row["test"]}
        for row in records(runs)
    ]  # fmt: skip


def _which(sweep: Sweep, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the data set and the replicate of a row, where the sweep has several."""
    several = {"dataset": len(sweep.datasets) > 1, "replicate": sweep.replicates > 1}
    return {name: row[name] for name, shown in several.items() if shown}


def _failed_final_runs(sweep: Sweep) -> Iterator[str]:
    runs = failed_final_runs(sweep)
    if runs:
        named = listed(f"{_search(run)} seed {run['seed']} ({run['reason']})" for run in runs[:NAMED])
        more = f" and {len(runs) - NAMED} more" if len(runs) > NAMED else ""
        total = int(sweep.verified["winner"].sum())
        yield (f"{len(runs)} of {total} final runs failed: {named}{more}. What they scored on the test images is in "
               "the means and the verdicts.")  # fmt: skip


def _search(run: Mapping[str, Any]) -> str:
    """Return the search of a final run: its arm, with the data set and the replicate that it states."""
    where = f" on {run['dataset']}" if "dataset" in run else ""
    return f"{run['arm']}{where}" + (f", replicate {run['replicate']}," if "replicate" in run else "")


def _winners_beyond(sweep: Sweep) -> Iterator[str]:
    """Say which winners' final runs violate the constraints on average: they were feasible on the search's seed."""
    winners = sweep.verified[sweep.verified["winner"]]
    bounds = [(key, METRICS[key].column if key in METRICS else key, b) for key, b in constraints(sweep.config).items()]
    beyond = []
    for _, runs in winners.groupby(search_of(winners), sort=False, dropna=False):
        for key, column, bound in bounds:
            mean = float(pd.to_numeric(runs[column], errors="coerce").mean()) if column in runs else math.nan
            if mean > bound:
                where = _which(sweep, records(runs)[0])
                beyond.append(f"{_search({'arm': runs['arm'].iloc[0], **where})} {_title(key)} {_over(mean, bound)}")
    if beyond:
        more = f" and {len(beyond) - NAMED} more" if len(beyond) > NAMED else ""
        yield (f"Winners are feasible with the search's seed, but the mean of some winners' final runs violates "
               f"search.constraints: {listed(beyond[:NAMED])}{more}.")  # fmt: skip


def _title(key: str) -> str:
    return METRICS[key].title if key in METRICS else key


def _over(mean: float, bound: float) -> str:
    """Return a mean and the bound that it exceeds, in as many digits as tell them apart."""
    if number(mean) != number(bound):
        return f"{number(mean)} (bound {number(bound)})"
    return f"{mean:.6g} (bound {bound:.6g})"


def _shared_warm_start(sweep: Sweep) -> Iterator[str]:
    """Warn that replicates which begin with the same earlier search are less independent than their number says."""
    earlier = (sweep.config.get("search") or {}).get("warm_start") or []
    if earlier and sweep.replicates > 1:
        yield (f"The searches learned from {listed(map(str, earlier))} (search.warm_start): replicates that an earlier "
               "sweep did not have take over the same search, an arm's first. They are less independent than separate "
               "searches, and the intervals over them may be too narrow.")  # fmt: skip


def _uneven_arms(sweep: Sweep) -> Iterator[str]:
    for row in records(compare.arms(sweep.verified)):
        if compare.uneven(row["mean"], row["iqm"], row["se"]):
            where = f" on {row['dataset']}" if len(sweep.datasets) > 1 else ""
            what = "searches" if row["unit"] == "search" else "seeds"
            yield (f"The {what} of {row['arm']}{where} are skewed: their interquartile mean is "
                   f"{percent(row['iqm'])} %, their mean {percent(row['mean'])} %.")  # fmt: skip


def _uneven_differences(verdicts: pd.DataFrame) -> Iterator[str]:
    for row in records(verdicts):
        pair = f"{row['a']} − {row['b']}" + (place(row) if verdicts["dataset"].nunique() > 1 else "")
        if isinstance(row["far"], str):
            yield (f"{pair}: one {row['unit']} ({row['far']}) is far from the rest; without it the difference is "
                   f"{signed(row['without_far'])} instead of {signed(row['difference'])} points.")  # fmt: skip
        if row["collapsed"]:
            yield (f"{pair}: all {row['n']} differences are {signed(row['difference'])} points, to a test image: "
                   "check that the seeds were used; the interval says nothing about others.")  # fmt: skip
        if compare.uneven(row["difference"], row["iqm"], row["se"]):
            yield (f"{pair}: the differences are skewed: their interquartile mean is {signed(row['iqm'])}, their mean "
                   f"{signed(row['difference'])} points.")  # fmt: skip


def _control(verdicts: pd.DataFrame) -> Iterator[str]:
    """Warn where the control is better than the baseline: then the relations do not explain the gain."""
    better = [row for row in records(verdicts) if row["a"] == CONTROL and row["verdict"] == "better"]
    if better:
        where = f" ({listed(place(row).strip() for row in better)})" if verdicts["dataset"].nunique() > 1 else ""
        yield (f"The control with shuffled relations helps too{where}, so the relations themselves do not explain the "
               "gain.")  # fmt: skip


def _constraints(sweep: Sweep) -> Iterator[str]:
    """Say how many finished trials violate the constraints."""
    bounds = constraints(sweep.config)
    if not bounds:
        return
    finished = sweep.trials[sweep.trials["state"] == "finished"]
    violating = int(finished["feasible"].eq(False).sum())
    limits = listed(f"{_title(key)} ≤ {number(bound)}" for key, bound in bounds.items())
    yield (f"{violating} of {len(finished)} finished trials violate the constraints ({limits}): they are not eligible "
           "as the best.")  # fmt: skip


def _equal_budgets(sweep: Sweep) -> Iterator[str]:
    """Say for equal trials and equal compute whether the verified winners would have been found."""
    if sweep.trials["arm"].nunique() < 2 or not sweep.trials["winner"].any():
        return
    by_trials = budget.at_equal(sweep.trials, sweep.teachers, "trials")
    cases = [(f"at equal trials ({by_trials['budget'].min():.0f} an arm)", by_trials)]
    for text, with_teacher in (("without", False), ("with", True)):
        table = budget.at_equal(sweep.trials, sweep.teachers, "compute", with_teacher=with_teacher)
        spent = duration(table["budget"].mean())
        cases.append((f"at equal compute {text} the teachers' cost ({spent} an arm)", table))
    if holding := [text for text, table in cases if table["verdict_holds"].all()]:
        yield sentence(f"{listed(holding)}, every arm had found its verified winner: the verdicts hold.")
    for text, table in cases:
        if failing := [row for row in records(table) if not row["verdict_holds"]]:
            if len(table) > table["arm"].nunique():
                choices = f"{len(failing)} of {len(table)} searches would have chosen another trial, or none"
            else:
                choices = listed(_other_choice(row) for row in failing)
            yield sentence(f"{text}, {choices}: the verdicts are not shown to hold.")


def _other_choice(row: Mapping[str, Any]) -> str:
    if pd.isna(row["best"]):
        return f"{row['arm']} would have had no eligible trial yet"
    return f"{row['arm']} would have chosen another trial ({percent(row['best'])} % validation)"


def _teacher_cost(sweep: Sweep) -> Iterator[str]:
    table = budget.costs(sweep)
    table["teachers"] = table["teacher"] + table["refit"]
    if rows := [row for row in records(table) if row["teachers"] > 0]:
        shares = [(row["arm"], duration(row["teachers"]), 100 * row["teachers"] / row["total"]) for row in rows]
        costs = listed(f"{seconds} for {arm} ({share:.0f} % of its total)" for arm, seconds, share in shares)
        yield f"Teachers and their caches cost {costs}."


def _teacher_strength(sweep: Sweep) -> Iterator[str]:
    """Say, of each data set, whether the effect of heterogeneity can be separated from that of a better teacher."""
    table = pairings.matrix(sweep.trials, sweep.teachers)
    several = len(sweep.datasets) > 1
    for name, part in table.groupby("dataset", sort=False, dropna=False):
        yield from _strength(part, f" on {name}" if several else "")


def _strength(table: pd.DataFrame, where: str) -> Iterator[str]:
    """Say it of the pairings of one data set, which `where` names."""
    paired = table[table["teacher"].notna() & (table["arm"] != CONTROL) & (table["trials"] > 0)]
    if paired["pairing"].nunique() < 2:
        return
    effect = records(pairings.teacher_effect(table))[0]
    if pd.notna(effect["low"]):
        interval = f"{signed(effect['low'])} to {signed(effect['high'])}"
        yield (f"With the teacher's accuracy and size held equal, a heterogeneous pairing{where} gains "
               f"{signed(effect['estimate'])} points of validation accuracy (95 % interval {interval}).")  # fmt: skip
        return
    means = paired.drop_duplicates("teacher").groupby("pairing")["teacher_val"].mean()
    known = {kind: percent(means.get(kind)) for kind in ("heterogeneous", "homogeneous")}
    yield (f"With {paired['teacher'].nunique()} teachers{where}, heterogeneity cannot be separated from a stronger or "
           f"larger teacher: heterogeneous teachers reach {known['heterogeneous']} % themselves, homogeneous ones "
           f"{known['homogeneous']} %.")  # fmt: skip


def _shrinkage(sweep: Sweep) -> Iterator[str]:
    known = [row for row in records(compare.arms(sweep.verified)) if pd.notna(row["shrinkage"])]
    several = len(sweep.datasets) > 1
    if known and not sweep.held_out:
        yield ("The final runs trained on the validation images too, so the selection bias of the search scores cannot "
               "be estimated: only the test images are held out.")  # fmt: skip
    elif known:
        names = [f"{row['arm']} on {row['dataset']}" if several else row["arm"] for row in known]
        biases = listed(f"{signed(row['shrinkage'])} ({name})" for row, name in zip(known, names, strict=True))
        yield ("Search scores less the validation accuracy of fresh seeds, the selection bias (winner's curse): "
               f"{biases} points.")  # fmt: skip


def _reach(verdicts: pd.DataFrame) -> Iterator[str]:
    tested = verdicts[verdicts["n"] > 0]
    if len(tested):
        floor, n = float(tested["p_floor"].max()), int(tested["n"].min())
        exact = listed(f"{row['p_flip']:.2g} for {row['a']} − {row['b']}" for row in records(tested)
                       if row["dataset"] == tested["dataset"].iloc[0])  # fmt: skip
        yield (f"p and interval are Student's t; intervals are not adjusted for the number of comparisons. Without its "
               f"assumption of a normal distribution, the exact sign-flip test has p = {exact} (not adjusted; the "
               f"smallest possible with {n} units is {floor:.2g}).")  # fmt: skip


def _openness(sweep: Sweep) -> Iterator[str]:
    if len(sweep.ledger):
        yield (f"All choices were made on validation images; the test images were opened {len(sweep.ledger)} times, "
               "as listed below.")  # fmt: skip
