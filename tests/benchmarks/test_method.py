"""The method's benchmark: choices, reuse of finished trainings, and the table."""

from collections.abc import Sequence
from typing import Any

import pytest

from benchmarks.method import SEEDS, Study, candidates
from benchmarks.trainings import TUNED_BY, Training


class FakeRuns:
    """Pretended trainings: a rate of 0.2 is best without a teacher, `gram` at 300 with one."""

    def __init__(self) -> None:
        self.requested: list[Training] = []

    def __call__(self, trainings: Sequence[Training]) -> list[dict[str, Any]]:
        self.requested += trainings
        return [self._result(training) for training in trainings]

    def _result(self, training: Training) -> dict[str, Any]:
        values = training.values
        good = values["optimizer.lr"] == 0.2
        good += values.get("loss.relation.weight") == 300.0 and not values["loss.relation.shuffle"]
        val = 0.5 + 0.1 * good + 0.001 * training.seed
        return {"arm": training.arm, "seed": training.seed, "val": val, "test": val, "spike_rate": 0.1}


def test_the_best_on_validation_is_tested() -> None:
    run = FakeRuns()
    findings = Study("digits", run).final()
    assert findings.chosen["direct"] == {"optimizer.lr": 0.2}
    assert all(values["optimizer.lr"] == 0.2 for values in findings.chosen.values())
    assert list(findings.claimed) == ["gram-homogeneous", "gram-heterogeneous", "shuffled-heterogeneous"]
    assert findings.chosen["shuffled-heterogeneous"]["loss.relation.shuffle"] is True
    both = findings.chosen["logit+gram-homogeneous"]
    assert both["loss.relation.weight"] == 300.0
    assert both["loss.logit.weight"] > 0
    assert {t.seed for t in run.requested if not t.final} == set(TUNED_BY)
    assert not set(TUNED_BY) & set(SEEDS)
    seeds = {arm: {t.seed for t in run.requested if t.final and t.arm == arm} for arm in findings.chosen}
    assert all(used == set(SEEDS) for used in seeds.values())


def test_the_claim_is_adjusted_separately_and_is_in_the_table() -> None:
    findings = Study("digits", FakeRuns()).final()
    compared = findings.compared().set_index("a")
    assert compared.loc["gram-homogeneous", "difference"] == pytest.approx(0.1)
    assert compared.loc["gram-homogeneous", "p"] == pytest.approx(3 * 2**-9)
    assert compared.loc["shuffled-heterogeneous", "difference"] == pytest.approx(0.0)
    rows = list(findings.table())
    assert len(rows) == 2 + len(findings.chosen)
    assert any(row.startswith("| gram-homogeneous | 300 | 10 |") and "+10.00" in row for row in rows)


def test_every_option_is_a_valid_training() -> None:
    for arm, options in candidates().items():
        for values in options:
            config = Training("digits", arm, values, 0, False).config()
            assert len(config.loss.terms_on()) == 1
            assert config.teacher.name is not None
