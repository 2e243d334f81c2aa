"""TPE with successive halving against random search, on cheap objectives shaped like ours."""

import itertools
import math
import statistics

import pytest

from benchmarks.quality import FORMULAS, SEARCHED, best_by_epochs, digits, lead, searches, shares
from tune.description.space import Values


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMULAS)
def test_half_of_random_searchs_budget_is_enough(name: str) -> None:
    ours, randoms = (searches(FORMULAS[name], *how, repeats=21) for how in (("tpe", "asha"), ("random", "none")))
    found = shares(ours, randoms)
    print(name, [round(share, 2) for share in sorted(found)])
    assert statistics.median(found) <= 0.5


def test_a_trial_has_the_curve_of_the_nearest_training() -> None:
    table = {point: [0.1, point[2], point[0]] for point in itertools.product(*SEARCHED.values())}
    objective = digits(table)
    values: Values = {"optimizer.lr": 0.02, "loss.relation.weight": 5.0, "neuron.threshold": 0.9}
    assert objective.worth(values) == 0.03
    assert objective.curve(values, None)(2) == 0.8  # type: ignore[arg-type]


def test_what_is_found_only_gets_better_and_epochs_are_counted() -> None:
    found = best_by_epochs(FORMULAS["smooth"], "random", "none", seed=3)
    spent, best = zip(*found, strict=True)
    assert spent == tuple(range(9, 9 * 48 + 1, 9))
    assert list(best) == sorted(best)


def test_shares_and_leads_are_of_what_was_found_by_then() -> None:
    ours = [[(9, -math.inf), (12, 0.5), (90, 0.75)], [(9, 0.5), (90, 0.5), (180, 0.75)]]
    theirs = [[(9, 0.25), (432, 0.75)], [(9, 0.25), (432, 0.6)]]
    assert shares(ours, theirs) == [90 / 432, 180 / 432]
    assert shares(theirs, ours)[1] == math.inf
    assert lead(ours, theirs, 1).mean == 25.0
    assert lead(ours, theirs, 10).mean == 37.5
    assert lead(ours, theirs, 48).mean == pytest.approx(7.5)
