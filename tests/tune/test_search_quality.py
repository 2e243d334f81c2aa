"""TPE with successive halving against random search, on cheap objectives shaped like ours."""

import itertools
import statistics

import pytest

from benchmarks.quality import FORMULAS, SEARCHED, best_by_epochs, digits, shares


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMULAS)
def test_half_of_random_searchs_budget_is_enough(name: str) -> None:
    found = shares(FORMULAS[name], repeats=21)
    print(name, [round(share, 2) for share in sorted(found)])
    assert statistics.median(found) <= 0.5


def test_a_trial_has_the_curve_of_the_nearest_training() -> None:
    table = {point: [0.1, point[2], point[0]] for point in itertools.product(*SEARCHED.values())}
    objective = digits(table)
    values = {"optimizer.lr": 0.02, "loss.relation.weight": 5.0, "neuron.threshold": 0.9}
    assert objective.worth(values) == 0.03
    assert objective.curve(values, None)(2) == 0.8  # type: ignore[arg-type]


def test_what_is_found_only_gets_better_and_epochs_are_counted() -> None:
    found = best_by_epochs(FORMULAS["smooth"], "random", "none", seed=3)
    spent, best = zip(*found, strict=True)
    assert spent == tuple(range(9, 9 * 48 + 1, 9))
    assert list(best) == sorted(best)
