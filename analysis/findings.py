"""What a reader should know besides the answer, in sentences: equal budgets, the teacher's part, luck, openness."""

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from analysis import budget, compare, pairings
from analysis.sentences import answer_to, duration, listed, percent, signed
from analysis.tables import Sweep, records


def findings(sweep: Sweep, verdicts: pd.DataFrame) -> list[str]:
    """Return the sentences that stand below a sweep's answer."""
    return [
        *_other_verdicts(verdicts),
        *_control(verdicts),
        *_equal_budgets(sweep),
        *_teacher_cost(sweep),
        *_teacher_strength(sweep),
        *_shrinkage(sweep),
        *_reach(verdicts),
        *_openness(sweep),
    ]


def _other_verdicts(verdicts: pd.DataFrame) -> Iterator[str]:
    for row in [row for row in records(verdicts) if row["n"]][1:]:
        yield answer_to(row)


def _control(verdicts: pd.DataFrame) -> Iterator[str]:
    """Warn where a teacher's relations of other samples help: then relations are not what helps."""
    for row in records(verdicts):
        if row["a"] == "shuffled" and row["verdict"] == "better":
            yield "The control with shuffled relations helps too, so what helps is not what the relations say."


def _equal_budgets(sweep: Sweep) -> Iterator[str]:
    """Say for equal trials and equal compute whether the verified winners would have been found."""
    if sweep.trials["arm"].nunique() < 2 or not sweep.trials["winner"].any():
        return
    by_trials = budget.at_equal(sweep.trials, sweep.teachers, "trials")
    cases = [(f"at equal trials ({by_trials['budget'].iloc[0]:.0f} an arm)", by_trials)]
    for text, with_teacher in (("without", False), ("with", True)):
        table = budget.at_equal(sweep.trials, sweep.teachers, "compute", with_teacher=with_teacher)
        spent = duration(table["budget"].iloc[0])
        cases.append((f"at equal compute {text} the teachers' cost ({spent} an arm)", table))
    if stand := [text for text, table in cases if table["holds"].all()]:
        yield _sentence(f"{listed(stand)}, every arm had found its verified winner: there the verdicts stand.")
    for text, table in cases:
        if other := [row for row in records(table) if not row["holds"]]:
            told = listed(_other_choice(row) for row in other)
            yield _sentence(f"{text}, {told}: there the verdicts are not shown.")


def _other_choice(row: Mapping[str, Any]) -> str:
    if pd.isna(row["best"]):
        return f"{row['arm']} would have found nothing yet"
    return f"{row['arm']} would have chosen another trial ({percent(row['best'])} % validation)"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _teacher_cost(sweep: Sweep) -> Iterator[str]:
    table = budget.costs(sweep)
    table["taught"] = table["teacher"] + table["refit"]
    taught = [row for row in records(table) if row["taught"] > 0]
    if taught:
        shares = [(row["arm"], duration(row["taught"]), 100 * row["taught"] / row["total"]) for row in taught]
        told = listed(f"{seconds} for {arm} ({share:.0f} % of all it took)" for arm, seconds, share in shares)
        yield f"Teachers and their banks cost {told}."


def _teacher_strength(sweep: Sweep) -> Iterator[str]:
    """Say whether "heterogeneous" may only mean "one better teacher"."""
    table = pairings.matrix(sweep.trials, sweep.teachers)
    taught = table[table["teacher"].notna() & (table["arm"] != "shuffled")]
    if taught["pairing"].nunique() < 2:
        return
    effect = records(pairings.teacher_effect(table))[0]
    if pd.notna(effect["low"]):
        interval = f"{signed(effect['low'])} to {signed(effect['high'])}"
        yield (f"With the teacher's accuracy and size held equal, a heterogeneous pairing gains "
               f"{signed(effect['estimate'])} points of validation accuracy (95 % interval {interval}).")  # fmt: skip
        return
    means = taught.drop_duplicates("teacher").groupby("pairing")["teacher_val"].mean()
    known = {kind: percent(means.get(kind)) for kind in ("heterogeneous", "homogeneous")}
    yield (f"With {taught['teacher'].nunique()} teachers, being heterogeneous cannot be told apart from a stronger "
           f"or larger teacher: heterogeneous teachers reach {known['heterogeneous']} % themselves, homogeneous ones "
           f"{known['homogeneous']} %.")  # fmt: skip


def _shrinkage(sweep: Sweep) -> Iterator[str]:
    known = [row for row in records(compare.arms(sweep.verified)) if pd.notna(row["shrinkage"])]
    if known and not sweep.held_out:
        yield ("The final trainings saw the validation images too, so how much of the search scores was luck cannot "
               "be told: nothing but the test images was left unseen.")  # fmt: skip
    elif known:
        told = listed(f"{signed(row['shrinkage'])} ({row['arm']})" for row in known)
        yield f"Search scores less the validation accuracy of fresh seeds, which is luck: {told} points."


def _reach(verdicts: pd.DataFrame) -> Iterator[str]:
    tested = verdicts[verdicts["n"] > 0]
    if len(tested):
        floor = min(1.0, float(tested["p_floor"].max()) * len(tested))
        cannot = " No difference can be significant with so few pairs." if floor >= compare.ALPHA else ""
        yield (f"With {int(tested['n'].min())} pairs and {len(tested)} comparisons the smallest adjusted p that can be "
               f"reached is {floor:.2g}. Intervals hold for each comparison by itself.{cannot}")  # fmt: skip


def _openness(sweep: Sweep) -> Iterator[str]:
    if len(sweep.ledger):
        yield (f"Everything was chosen on validation images; the test images were opened {len(sweep.ledger)} times, "
               "each time written down below.")  # fmt: skip
