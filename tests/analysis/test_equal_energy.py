"""Verdicts at equal energy: known answers on straight curves, and where there is none."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import compare, equal_energy, load
from analysis.report import equal_energy_table, results, write_csv, write_html
from tests.support.cli import run

Points = Sequence[tuple[float, float]]
"""Energy and accuracy after each step."""


def table(curves: Mapping[str, Sequence[Sequence[Points]]], rule: str = "steps") -> pd.DataFrame:
    """Return the rows of arm → replicates → seeds → points."""
    return pd.DataFrame([
        {"sweep": "s", "dataset": "digits", "arm": arm, "replicate": replicate, "seed": seed, "rule": rule, "at": at,
         "energy_nj": energy, "accuracy": accuracy, "images": 1000.0}
        for arm, replicates in curves.items() for replicate, runs in enumerate(replicates)
        for seed, points in enumerate(runs) for at, (energy, accuracy) in enumerate(points, start=1)
    ])  # fmt: skip


def line(first: float, last: float, low: float, high: float) -> Points:
    return [(first, low), (last, high)]


def test_searches_are_compared_at_the_highest_energy_that_both_reach() -> None:
    """direct rises by 0.01 a nJ from 0.5 at 0 nJ; the other arm is 0.1 above it, but spends twice as much."""
    curves = {
        "direct": [[line(0, 10, 0.50 + d, 0.60 + d)] for d in (0.00, 0.01, 0.02)],
        "logit": [[line(5, 20, 0.65 + d, 0.80 + d)] for d in (0.001, 0.011, 0.018)],
    }
    (row,) = equal_energy.verdicts(table(curves)).to_dict("records")
    assert (row["rule"], row["a"], row["b"], row["unit"], row["n"]) == ("steps", "logit", "direct", "search", 3)
    assert (row["energy_nj"], row["energy_low"], row["energy_high"]) == (10, 10, 10)
    assert row["accuracy_b"] == pytest.approx(0.61)
    assert row["difference"] == pytest.approx(0.1)
    assert row["verdict"] == "better"
    scores = [
        {"arm": arm, "sweep": "s", "replicate": k, "seed": 0, "dataset": "digits", "images": 1000.0, "test": value}
        for arm, values in (("direct", (0.60, 0.61, 0.62)), ("logit", (0.701, 0.711, 0.718)))
        for k, value in enumerate(values)
    ]
    same = compare.verdicts(pd.DataFrame(scores)).iloc[0]
    assert [row[key] for key in ("low", "high", "p")] == pytest.approx([same[key] for key in ("low", "high", "p")])


def test_a_lead_that_is_bought_with_spikes_is_none_at_equal_energy() -> None:
    shared = [0.0, 0.004, -0.003, 0.002, 0.001, -0.002]
    curves = {
        "direct": [[line(1, 10, 0.51 + d, 0.60 + d)] for d in shared],
        "logit": [[line(1, 20, 0.51 + d + e, 0.70 + d + e)] for d, e in zip(shared, shared[::-1], strict=True)],
    }
    (row,) = equal_energy.verdicts(table(curves)).to_dict("records")
    assert row["accuracy_a"] == pytest.approx(0.60, abs=0.001)
    assert row["verdict"] in ("no difference found", "equivalent")


def test_a_search_is_the_mean_of_its_seeds_step_by_step() -> None:
    seeds = [line(1, 9, 0.4, 0.6), line(1, 11, 0.5, 0.7)]
    flat = [line(1, 10, 0.5, 0.5)]
    found = equal_energy.verdicts(table({"direct": [flat] * 2, "logit": [seeds] * 2}))
    (row,) = found.to_dict("records")
    assert row["accuracy_a"] == pytest.approx(0.65)  # at 10 nJ, the mean of the last points
    assert row["seeds"] == 1


def test_one_search_is_compared_by_its_seeds() -> None:
    direct = [line(1, 10, 0.5, 0.6 + 0.001 * k) for k in range(6)]
    logit = [line(2, 8, 0.6, 0.7 + 0.002 * k) for k in range(6)]
    (row,) = equal_energy.verdicts(table({"direct": [direct], "logit": [logit]})).to_dict("records")
    assert (row["unit"], row["n"], row["seeds"]) == ("seed", 6, 6)
    at_8 = [np.interp(8, (1, 10), (0.5, 0.6 + 0.001 * k)) for k in range(6)]
    assert row["difference"] == pytest.approx(np.mean([0.7 + 0.002 * k for k in range(6)]) - np.mean(at_8))


def test_without_a_common_energy_in_every_pair_there_is_no_verdict() -> None:
    near, far = line(1, 10, 0.5, 0.6), line(11, 20, 0.7, 0.8)
    assert not len(equal_energy.verdicts(table({"direct": [[near]] * 3, "logit": [[far]] * 3})))
    assert not len(equal_energy.verdicts(table({"direct": [[near]] * 3, "logit": [[near], [near], [far]]})))
    apart = table({"direct": [[near]] * 3, "logit": [[near], [near], [far]]})
    assert equal_energy.without_common_energy(apart) == [("digits", "logit", "direct")]
    touching = equal_energy.verdicts(table({"direct": [[near]] * 2, "logit": [[line(10, 20, 0.7, 0.8)]] * 2}))
    assert equal_energy.without_common_energy(table({"direct": [[near]] * 2, "logit": [[near]] * 2})) == []
    assert touching["difference"].tolist() == pytest.approx([0.1])
    assert not len(equal_energy.verdicts(table({"direct": [[near]]})))


def test_both_rules_and_all_comparisons_share_the_error_rate() -> None:
    rng = np.random.default_rng(0)
    curves = {arm: [[line(1, 10, 0.5, 0.6 + e)] for e in rng.normal(0, 0.01, 5)] for arm in ("direct", "a", "b")}
    both = pd.concat([table(curves), table(curves, "confidence")])
    alone, together = equal_energy.verdicts(table(curves)), equal_energy.verdicts(both)
    assert together["rule"].tolist() == ["steps"] * 2 + ["confidence"] * 2
    assert together["p"].min() == pytest.approx(min(1.0, 2 * alone["p"].min()))


def looked_at(replicates: int, seeds: int) -> pd.DataFrame:
    """Return random final runs of two arms, without looks."""
    rng = np.random.default_rng(3)
    return pd.DataFrame([
        {"sweep": "s", "dataset": "digits", "arm": arm, "replicate": replicate, "trial": 0, "seed": seed,
         "test": rng.normal(0.9, 0.01), "images": 1000.0, "winner": True}
        for arm in ("direct", "logit") for replicate in range(replicates) for seed in range(seeds)
    ])  # fmt: skip


def seeds_added() -> pd.DataFrame:
    """Four replicates, whose seeds 3 to 5 were added after a look."""
    table = looked_at(4, 6)
    return table.assign(look=1 + (table["seed"] > 2))


def until_known() -> pd.DataFrame:
    """A sweep with `replicates: {until: 1.0}` that looked at three replicates, and then after each."""
    table = looked_at(6, 2)
    return table.assign(look=np.maximum(1, table["replicate"] - 1), at_most=12)


def other_winners() -> pd.DataFrame:
    """Five replicates with other winners after a look, then seeds of these."""
    table, later = looked_at(5, 3).assign(look=1, winner=False), looked_at(5, 4).assign(trial=1)
    return pd.concat([table, later.assign(look=2 + (later["seed"] > 2))], ignore_index=True)


def one_search_each() -> pd.DataFrame:
    """Another winner of the only search of each arm, and seeds of one arm that the other lacks."""
    table = pd.concat([looked_at(1, 5).assign(look=1, winner=False), looked_at(1, 7).assign(trial=1, look=2)])
    return table[~(table["arm"].eq("logit") & table["seed"].eq(6))]


@pytest.mark.parametrize(("made", "looks"), [
    (seeds_added, 2), (until_known, 4), (other_winners, 3), (one_search_each, 2),
])  # fmt: skip
def test_looks_are_those_of_the_final_runs(made: Callable[[], pd.DataFrame], looks: int) -> None:
    """All arms spend the same, so that the verdicts at equal energy are those on the final runs."""
    verified = made()
    steps = ((1, 1.0, verified["test"] - 0.1), (2, 10.0, verified["test"]))
    anytime = pd.concat([verified.assign(rule="steps", at=at, energy_nj=energy, accuracy=accuracy)
                         for at, energy, accuracy in steps])  # fmt: skip
    (row,) = equal_energy.verdicts(anytime.drop(columns="test")).to_dict("records")
    same = compare.verdicts(verified).iloc[0]
    assert (row["unit"], row["n"], row["seeds"], row["look"]) == (same["unit"], same["n"], same["seeds"], looks)
    assert same["look"] == looks
    for column in ("difference", "low", "high", "p", "se"):
        assert row[column] == pytest.approx(same[column]), column
    planned = compare.verdicts(verified.drop(columns=["look", "at_most"], errors="ignore")).iloc[0]
    assert row["high"] - row["low"] > planned["high"] - planned["low"]


def test_reports_have_them(synthetic: Callable[..., Path], tmp_path: Path) -> None:
    folder = synthetic(anytime=True, replicates=2, seeds=2, trials=2)
    sweep = load.sweep(folder)
    assert len(sweep.anytime) == 2 * len(sweep.verified)
    keys, more = ["arm", "replicate", "trial", "seed"], ["time", "look", "at_most", "winner", "images"]
    runs = sweep.anytime[keys].merge(sweep.verified[keys + more], on=keys, validate="many_to_one")
    pd.testing.assert_frame_equal(runs[more], sweep.anytime[more])
    found = results(sweep)
    assert [row["energy_nj"] for row in found["equal_energy"]] == [12_720.0] * len(found["verdicts"])
    of_all = {(row["a"], row["b"]): row["difference"] for row in found["verdicts"]}  # equal energies, so the same
    assert {(row["a"], row["b"]): row["difference"] for row in found["equal_energy"]} == pytest.approx(of_all)
    assert len(equal_energy_table(found)) == len(found["equal_energy"])
    write_html([sweep], tmp_path / "page.html")
    assert "Verdicts at equal energy" in (tmp_path / "page.html").read_text()
    assert tmp_path / "equal_energy.csv" in write_csv(sweep, tmp_path)
    output = run("report", "digits", "--store", folder.parent.parent).stdout
    assert "at equal energy" in output


def test_sweeps_of_earlier_versions_have_none(synthetic: Callable[..., Path]) -> None:
    sweep = load.sweep(synthetic(trials=2))
    assert not len(sweep.anytime)
    assert results(sweep)["equal_energy"] == []
