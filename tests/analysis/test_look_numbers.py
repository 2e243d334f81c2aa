"""Looks at the final runs of several sweeps, by time: sweeps one after another, side by side, copied and continued."""

import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis import compare, load
from analysis.answers import answers
from analysis.look_numbers import LookNumbers, Timeline, timeline_of
from analysis.looks import levels
from analysis.remarks import remarks
from analysis.tables import Sweep, collect
from analysis.units import groups, pair, units_at_looks
from supersnn.records.events import RequestTaken, SweepClosed, SweepStarted, WinnerVerified
from supersnn.records.state import SweepState

Write = Callable[..., Path]
ARMS = {"direct": [None], "heterogeneous": ["vgg8"]}


def ran(*drivers: tuple[float, float], looked: Sequence[float] = (), at_most: int = 0) -> Timeline:
    """Return a sweep whose drivers began and ended at these times, each with a final run just before its end and looks.

    Args:
        drivers: when each began, and when it ended as done.
        looked: times at which a driver looked by itself.
        at_most: the most replicates that it planned then.
    """
    ends = [*((time, at_most) for time in looked), *((end, 0) for _, end in drivers)]
    return Timeline(
        tuple(began for began, _ in drivers), tuple(sorted(ends)), at_most, tuple(sorted(end - 0.1 for end, _ in ends))
    )


def numbered(*timelines: Timeline) -> list[list[int]]:
    """Return the looks of the final runs of each sweep."""
    numbers = LookNumbers(timelines)
    return [[numbers.of(time) for time in timeline.runs] for timeline in timelines]


@pytest.mark.parametrize(("timelines", "looks"), [
    ((ran((0, 10)), ran((11, 20)), ran((20, 30))), [[1], [2], [3]]),
    ((ran((11, 20)), ran((0, 10))), [[2], [1]]),
    ((ran((0, 10)), ran((0, 10)), ran((0, 10))), [[1], [1], [1]]),
    ((ran((0, 10)), ran((1, 12)), ran((13, 20))), [[1], [1], [2]]),
    ((ran((0, 10)), ran((1, 12)), ran((11, 20))), [[1], [2], [2]]),
    ((ran((0, 10)), ran((9, 20)), ran((19, 30)), ran((29, 40))), [[1], [2], [3], [3]]),
    ((ran((0, 10), (20, 30)),), [[1, 2]]),
    ((ran((0, 10), (20, 30)), ran((0, 10), (20, 30))), [[1, 2], [1, 2]]),
    ((ran((0, 10), (20, 30)), ran((0, 12))), [[1, 2], [1]]),
    ((ran((0, 10), (20, 30)), ran((0, 25))), [[1, 2], [2]]),
    ((ran((0, 30), looked=(10, 20, 29.9), at_most=5), ran((0, 18))), [[1, 2, 3, 3], [2]]),
    ((ran((0, 30), looked=(10, 20), at_most=5), ran((31, 40))), [[1, 2, 3], [4]]),
], ids=["one after another", "in any order", "copies", "side by side, then another", "another before the second ended",
        "each begins before the one before has ended", "continued", "copies, continued", "one of two is continued",
        "continued while another runs", "looks of its own", "looks of its own, then another"])  # fmt: skip
def test_a_look_is_the_last_end_before_a_sweep_begins_or_is_continued(
    timelines: Sequence[Timeline], looks: list[list[int]]
) -> None:
    assert numbered(*timelines) == looks


def test_a_sweep_that_has_begun_after_an_end_counts_without_final_runs() -> None:
    assert numbered(ran((0, 10)), ran((1, 20)), Timeline((11.0,), (), 0, ())) == [[1], [2], []]


def test_one_sweep_alone_has_a_look_at_each_end_with_new_final_runs() -> None:
    """The slow way: final runs with the same first end at or after them are at one look."""
    for seed in range(500):
        rng = random.Random(seed)
        whole = seed % 2  # then many times are equal

        def times(most: int, rng: random.Random = rng, digits: int | None = None if whole else 3) -> tuple[float, ...]:
            return tuple(sorted(round(rng.uniform(0, 12), digits) for _ in range(rng.randint(0, most))))

        ends = tuple((time, rng.choice((0, 7))) for time in times(5))
        timeline = Timeline(times(4), ends, 9, times(8))
        first = [next((end for end, _ in ends if end >= time), math.inf) for time in timeline.runs]
        order = sorted(set(first))
        assert numbered(timeline) == [[1 + order.index(end) for end in first]]


def journal(*happened: str) -> SweepState:
    """Return the state of a sweep of one arm to which things happened, a second each; see the cases below."""
    state, plan = SweepState(), {"verify.seeds": 2.0}
    for second, what in enumerate(happened):
        kind, _, value = what.partition(" ")
        match kind:
            case "begins":
                planned = plan | ({"verify.seeds": float(value)} if value else {})
                state.apply(SweepStarted(time=second, driver=str(second), plan=planned))
            case "ends":
                state.apply(SweepClosed(time=second, end=value))
            case "change":
                key, number = value.split("=")
                values = {key: int(number)} if "." in key else {"verify": {key: int(number)}}
                state.apply(RequestTaken(time=second, id=str(second), kind="change", values=values))
            case _:
                state.apply(WinnerVerified(time=second, arm="a", trial=0, seed=second, config={}, metrics={}))
    return state


@pytest.mark.parametrize(("happened", "looks"), [
    (["begins", "run", "run", "change verify.seeds=9", "run", "ends done"], [1, 1, 2]),
    (["begins", "change verify.seeds=9", "run", "run", "ends done"], [1, 1]),
    (["begins", "run", "change resources.stall=9", "run", "ends done"], [1, 1]),
    (["begins", "run", "change verify.seeds=2", "run", "ends done"], [1, 1]),
    (["begins", "run", "change seeds=9", "run", "ends done"], [1, 2]),
    (["begins", "run", "ends interrupted", "begins", "run", "ends done"], [1, 1]),
    (["begins", "run", "ends interrupted", "begins 9", "run", "ends done"], [1, 2]),
    (["begins", "run", "begins 9", "run", "ends done"], [1, 2]),
    (["begins", "run", "change verify.seeds=9", "run", "begins 9", "run", "ends done"], [1, 2, 2]),
    (["begins", "run", "ends done", "begins 9", "run", "ends done"], [1, 2]),
], ids=["changed while it runs", "changed before the first run", "another key", "the same value",
        "a whole section", "interrupted",
        "interrupted, then changed", "killed, then changed", "changed, then killed", "extended"])  # fmt: skip
def test_a_change_of_the_planned_final_runs_is_a_look(happened: list[str], looks: list[int]) -> None:
    timeline = timeline_of(journal(*happened), {})
    assert numbered(timeline) == [looks]


def sequence(write: Write, count: int, **options: object) -> list[Sweep]:
    """Return sweeps of one search of each arm, each begun after the end of the one before."""
    sweeps: list[Sweep] = []
    options = {"arms": ARMS, "trials": 1, "epochs": 1, "seeds": 2, **options}
    for seed in range(count):
        begin = {"start": (sweeps[-1].state.updated or 0.0) + 5} if sweeps else {}
        sweeps.append(load.sweep(write(f"s{seed}", seed=seed, **begin, **options), cache=False))
    return sweeps


def test_sweeps_that_are_pooled_one_after_another_are_looks(synthetic: Write) -> None:
    sweeps = sequence(synthetic, 4, anytime=True)
    assert all(set(sweep.verified["look"]) == {1} for sweep in sweeps)
    tables = collect(reversed(sweeps))
    for table in (tables.verified, tables.anytime):
        assert table.groupby("sweep")["look"].unique().map(list).to_dict() == {f"s{k}": [k + 1] for k in range(4)}
    answer = answers(sweeps)[0]
    alone = compare.verdicts(answer.verified.assign(look=1))
    assert answer.verdicts["look"].tolist() == [3]  # one search is no look at arms
    assert (answer.verdicts["p"] > alone["p"]).all()
    assert (answer.verdicts["high"] > alone["high"]).all()
    assert answer.equal_energy["look"].tolist() == [3] * len(answer.equal_energy)
    assert any(
        line.startswith("This is look 3 at these results: sweeps or final runs were") for line in remarks(answer)
    )


def test_another_question_is_no_look(synthetic: Write) -> None:
    (first,) = sequence(synthetic, 1)
    after = (first.state.updated or 0.0) + 5
    other = load.sweep(synthetic("other", seed=1, arms=ARMS, trials=2, seeds=2, start=after), cache=False)
    assert set(collect([first, other]).verified["look"]) == {1}


def test_sweeps_side_by_side_are_one_look(synthetic: Write) -> None:
    """Three sweeps with equal times whose differences are −2.3, +5.2 and −1.2 points."""
    sweeps = [load.sweep(synthetic(f"s{k}", seed=k, arms=ARMS, trials=1, seeds=2), cache=False) for k in range(3)]
    table = collect(sweeps).verified
    differences = table["sweep"].map({"s0": -0.023, "s1": 0.052, "s2": -0.012})
    table = table.assign(test=0.9 + differences.where(table["arm"].eq("heterogeneous"), 0.0))
    row = compare.verdicts(table).iloc[0]
    assert (row["n"], row["look"]) == (3, 1)
    assert (100 * row["low"], 100 * row["high"]) == pytest.approx((-9.5, 10.6), abs=0.05)


def test_looking_after_each_of_ten_sweeps_raises_few_false_alarms(synthetic: Write) -> None:
    """Sweeps of one search, tested together after each from the third on: as first looks 14 % would be alarms."""
    sweeps = sequence(synthetic, 10)
    draws = np.random.default_rng(0).standard_normal((60_000, len(sweeps)))
    counted, uncounted = np.zeros((2, len(draws)), dtype=bool)
    for count in range(3, len(sweeps) + 1):
        (searches,) = groups(collect(sweeps[:count]).verified, "test").values()
        looks = units_at_looks([pair(searches, "heterogeneous", "direct")])
        assert [look.units for look in looks] == list(range(2, count + 1))
        known = draws[:, :count]
        p = 2 * stats.t.sf(np.abs(known.mean(1) / known.std(1, ddof=1) * np.sqrt(count)), count - 1)
        counted |= p < levels(looks, 0.05)[-1]
        uncounted |= p < levels(looks[-1:], 0.05)[-1]
    assert counted.mean() <= 0.06
    assert uncounted.mean() == pytest.approx(0.14, abs=0.003)


def test_one_sweep_has_the_same_looks_collected_and_alone(synthetic: Write) -> None:
    sweep = load.sweep(synthetic(replicates=2, seeds=2, trials=1), cache=False)
    pd.testing.assert_series_equal(collect([sweep]).verified["look"], sweep.verified["look"])
