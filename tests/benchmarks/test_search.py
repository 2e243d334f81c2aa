"""A comparison of searches: what it keeps, and how it continues."""

from pathlib import Path

import pytest

from benchmarks import search
from benchmarks.search import FIRST_SEED, SIDES, Problem, Searched, best_by, measure
from tune.description.sweep import SweepConfig

PROBLEM = Problem("resnet8", epochs=2, trainings=4, repeats=3)


class Interrupted(RuntimeError):
    """Ends a comparison in the middle."""


def test_an_interrupted_comparison_continues_with_the_missing_searches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[str, int, float]] = []
    limit = 4

    def searched(side: str, config: SweepConfig, _store: Path, seconds: float) -> Searched:
        if len(made) == limit:
            raise Interrupted
        made.append((side, config.seed, seconds))
        return Searched([(1.0, 0.5), (seconds, 0.9 if side == "supersnn" else 0.8)], epochs=8, begun=4)

    lengths = iter([10.0])
    monkeypatch.setattr(search, "searched", searched)
    monkeypatch.setattr(search, "teach", lambda _config, _store: None)
    monkeypatch.setattr(search, "length", lambda _config, _store: next(lengths))
    with pytest.raises(Interrupted):
        measure("search", PROBLEM, tmp_path / "search.jsonl")
    limit = 100
    result = measure("search", PROBLEM, tmp_path / "search.jsonl")
    seeds = range(FIRST_SEED, FIRST_SEED + PROBLEM.repeats)
    assert sorted((side, seed) for side, seed, _ in made) == sorted((side, seed) for side in SIDES for seed in seeds)
    assert {seconds for _, _, seconds in made} == {20.0}  # a training is timed once
    assert result.ratios["points_ahead_of_optuna"] == pytest.approx(10)
    times = ("at the end", "in the second half", "at 95% of the time")
    leads = [result.notes[f"ahead of optuna {when}"] for when in times]
    assert [lead.split(" ")[0] for lead in leads] == ["+10.00", "+0.50", "+0.00"]  # its best came with the last second
    assert result.notes["trials trained to their end per repeat"]["supersnn"] == "2 … 2, median 2"


def test_best_by_a_time() -> None:
    assert [best_by([(2.0, 0.5), (3.0, 0.7), (4.0, 0.6)], at) for at in (1.0, 2.0, 9.0)] == [0.0, 0.5, 0.7]
