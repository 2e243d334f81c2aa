"""Replicates that are added until the differences are known: coverage under that stopping, the widest interval."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import special

from analysis import compare, load
from analysis.answers import answers
from analysis.looks import Look, levels, spent
from analysis.planning import half_width
from analysis.precision import widest
from analysis.remarks import remarks
from supersnn.records.events import PrecisionLooked
from tests.support.simulated_searches import SEED_SD, searches

LEAST, MOST = 3, 12


def ended(until: float, level: list[float], sweeps: int = 20_000) -> tuple[float, float]:
    """Return the share of sweeps whose last interval covers the truth, and their mean number of replicates.

    Args:
        until: half the width at which a sweep ends, in standard deviations of a difference.
        level: of the intervals at each look, less one.
        sweeps: how many are simulated.
    """
    draws = np.random.default_rng(0).standard_normal((sweeps, MOST))
    going, covered, replicates = np.ones(sweeps, dtype=bool), np.zeros(sweeps, dtype=bool), np.zeros(sweeps)
    for count, alpha in zip(range(LEAST, MOST + 1), level, strict=True):
        known = draws[:, :count]
        half = special.stdtrit(count - 1, 1 - alpha / 2) * known.std(1, ddof=1) / np.sqrt(count)
        ends = going & ((half <= until) | (count == MOST))
        covered[ends], replicates[ends] = (np.abs(known.mean(1)) <= half)[ends], count
        going &= ~ends
    return float(covered.mean()), float(replicates.mean())


@pytest.mark.parametrize("until", [0.5, 0.7, 1.0, 1.5, 3.0])
def test_the_last_interval_covers_whenever_it_was_narrow_enough(until: float) -> None:
    looks = tuple(Look(float(count), float(MOST)) for count in range(LEAST, MOST + 1))
    covered, replicates = ended(until, list(levels(looks, 0.05)))
    plain, fewer = ended(until, [0.05] * len(looks))
    print(f"{until} sd: {100 * covered:.1f} % with {replicates:.1f} replicates; {100 * plain:.1f} % with {fewer:.1f}")
    assert covered >= 0.95
    assert plain < covered
    if until <= 1:
        assert plain < 0.93


def test_verdicts_of_sweeps_that_stop_cover_as_simulated() -> None:
    sweeps, until = 150, 0.015
    table = searches(sweeps, MOST, 1, 0.0, ("direct", "heterogeneous"))
    table = table.assign(look=np.maximum(1, table["replicate"] - LEAST + 2), at_most=MOST)
    going, covered = list(dict.fromkeys(table["question"])), 0
    for count in range(LEAST, MOST + 1):
        part = table[(table["replicate"] < count) & table["question"].isin(going)]
        rows = compare.verdicts(part)
        assert len(rows) == len(going)
        ends = ((rows["high"] - rows["low"]) / 2 <= until) | (count == MOST)
        assert ((rows["low"] > 0) | (rows["high"] < 0) == (rows["p"] < 0.05)).all()
        covered += int((ends & (rows["low"] <= 0) & (rows["high"] >= 0)).sum())
        going = [question for question, end in zip(going, ends, strict=True) if not end]
        if not going:
            break
    assert covered / sweeps >= 0.95


def test_a_plan_spends_in_equal_parts_and_never_more_than_everything() -> None:
    shares = spent([Look(float(count), 12.0) for count in range(3, 13)])
    assert np.diff(shares) == pytest.approx(np.diff(shares)[0])
    assert shares[-1] == pytest.approx(1 - 1 / 12)
    longer = spent(
        [*(Look(float(count), 12.0) for count in range(3, 13)), Look(13.0, 20.0), Look(20.0, 20.0), Look(30.0)]
    )
    assert longer[:10] == shares
    assert shares[-1] < longer[-3] < longer[-2] < longer[-1] < 1
    assert longer[-2] == pytest.approx(1 - 1 / 20)
    assert all(0 < level < 0.05 for level in levels(tuple(Look(float(count), 12.0) for count in range(3, 13)), 0.05))


def test_the_expected_half_width_is_that_of_known_variance() -> None:
    assert half_width(SEED_SD**2, 3, 12) > half_width(SEED_SD**2, 6, 12) > half_width(SEED_SD**2, 12, 12)
    level = levels((Look(3.0, 12.0),), 0.05)[0]
    assert half_width(SEED_SD**2, 3, 12) == pytest.approx(special.stdtrit(2, 1 - level / 2) * SEED_SD / np.sqrt(3))


def test_the_widest_interval_is_of_all_comparisons_on_all_data_sets(synthetic: Callable[..., Path]) -> None:
    sweep = load.sweep(synthetic(datasets=["digits", "fashion"], replicates=3, search_noise=0.01), cache=False)
    rows = compare.verdicts(sweep.verified)
    rows = rows[rows["dataset"] != "overall"]
    found = widest(sweep)
    assert found is not None
    assert found.half == pytest.approx(((rows["high"] - rows["low"]) / 2).max())
    row = rows.iloc[int(np.argmax(rows["high"] - rows["low"]))]
    assert found[1:] == (row["dataset"], row["a"], row["b"])


def test_an_arm_without_several_winners_has_no_interval(synthetic: Callable[..., Path]) -> None:
    sweep = load.sweep(synthetic(replicates=1), cache=False)
    found = widest(sweep)
    assert found is not None
    assert found.half == np.inf


def test_the_drivers_looks_count_and_the_page_says_what_they_found(synthetic: Callable[..., Path]) -> None:
    folder = synthetic(replicates=3, search_noise=0.01)
    plain = load.sweep(folder, cache=False)
    last = plain.state.drivers[-1].last
    look = PrecisionLooked(
        time=last, replicates=3, at_most=12, until=0.01, half_width=0.02, a="homogeneous", b="direct", next=3
    )
    journal = folder / "journal.jsonl"
    lines = journal.read_text().splitlines()
    journal.write_text("\n".join([*lines[:-1], look.model_dump_json(), lines[-1]]) + "\n")
    sweep = load.sweep(folder, cache=False)
    assert set(sweep.verified["look"]) == {1}
    assert set(sweep.verified["at_most"]) == {12}
    before, now = (compare.verdicts(one.verified) for one in (plain, sweep))
    assert (now["high"] - now["low"] > before["high"] - before["low"]).all()
    assert (now["p"] >= before["p"]).all()
    text = " ".join(remarks(answers([sweep])[0]))
    assert (
        "until the widest interval is ±1 points: with 3 it is ±2.00 points of homogeneous − direct, where it has"
        in text
    )
    assert "This is look" not in text
