"""The comparisons that the text on the method makes beside its tables, as lines of small tables in RESULTS.md."""

from collections.abc import Iterator

import pandas as pd

from analysis.compare import ALPHA, verdicts
from analysis.statistics import holm
from benchmarks.common import Lead, lead_of
from benchmarks.method import Findings
from benchmarks.trainings import TEACHERS


def lead(found: Findings, ours: str, theirs: str) -> Lead:
    """Return the lead of one arm over another in points of test accuracy, paired by seed."""
    by_seed = {arm: found.rows[found.rows["arm"] == arm].sort_values("seed")["test"] for arm in (ours, theirs)}
    return lead_of(list(by_seed[ours]), list(by_seed[theirs]))


def one_family(found: Findings) -> pd.DataFrame:
    """Return all comparisons with the arm without a teacher, adjusted as one family of sixteen; see `compared`."""
    table = verdicts(found.rows, [(arm, "direct") for arm in found.chosen if arm != "direct"])
    return table.assign(p=holm(table["p_flip"]))


def lines(data: str, found: Findings) -> Iterator[str]:
    """Yield every line on one data set."""
    yield from against_shuffled(found)
    yield from features_against_gram(data, found)
    yield from lost_in_one_family(data, found)
    yield from shares_of_errors(data, found)
    yield from kinds(data, found)


def against_shuffled(found: Findings) -> Iterator[str]:
    """Yield a line for the chosen relation with each teacher, compared with the same relation of other samples."""
    for arm in found.claimed[:2]:
        teacher = arm.rpartition("-")[2]
        yield f"| {arm} − shuffled-{teacher} | {_cells(lead(found, arm, f'shuffled-{teacher}'))} |"


def features_against_gram(data: str, found: Findings) -> Iterator[str]:
    """Yield a line for the feature term with each teacher, compared with the relation `gram`."""
    for teacher in TEACHERS:
        pair = f"feature-{teacher}", f"gram-{teacher}"
        yield f"| {data} | {' − '.join(pair)} | {_cells(lead(found, *pair))} |"


def lost_in_one_family(data: str, found: Findings) -> Iterator[str]:
    """Yield a line for each arm that differs from no teacher in its own family, and not in one of sixteen."""
    own, one = (dict(zip(table["a"], table["p"], strict=True)) for table in (found.compared(), one_family(found)))
    for arm, p in one.items():
        if own[arm] < ALPHA <= p:
            yield f"| {data} | {arm} | {own[arm]:.3f} | {p:.3f} |"


def shares_of_errors(data: str, found: Findings) -> Iterator[str]:
    """Yield a line for the chosen relation with each teacher: the share of the errors without one that it removes."""
    errors = 100 - 100 * found.rows[found.rows["arm"] == "direct"]["test"].mean()
    for arm in found.claimed[:2]:
        yield f"| {data} | {errors:.1f} | {arm} | {100 * lead(found, arm, 'direct').mean / errors:.1f} |"


def kinds(data: str, found: Findings) -> Iterator[str]:
    """Yield a line with the mean validation accuracy of each kind of relation over both teachers, the best first."""
    ordered = sorted(found.kinds.items(), key=lambda item: -item[1])
    yield f"| {data} | {', '.join(f'`{kind}` {value:.5f}' for kind, value in ordered)} |"


def _cells(one: Lead) -> str:
    return f"{one.mean:+.2f} | {one.low:+.2f} … {one.high:+.2f}".replace("-", "−")
