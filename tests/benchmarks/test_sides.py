"""Features against relations at equal sides: what is tried, what is chosen, what is claimed."""

from collections.abc import Sequence
from typing import Any

from benchmarks.method import SEEDS, TUNED_BY, Study, Training
from benchmarks.sides import ARMS, RATES, SIDES, WEIGHTS, claims, cost, findings, options, tuned


class FakeRuns:
    """Pretended trainings: whole maps, a rate of 0.3 and the middle weight are best, shuffled 0.1 and the least."""

    def __init__(self) -> None:
        self.requested: list[Training] = []

    def __call__(self, trainings: Sequence[Training]) -> list[dict[str, Any]]:
        self.requested += trainings
        return [self._result(training) for training in trainings]

    def _result(self, training: Training) -> dict[str, Any]:
        values = training.values
        shuffled = values.get("loss.relation.shuffle", False)
        rate, weight = (0.1, WEIGHTS["gram"][0]) if shuffled else (0.3, WEIGHTS["gram"][1])
        good = (values["optimizer.lr"] == rate) + (values.get("loss.relation.weight") == weight)
        good += values.get("loss.relation.pool") == "full" and not shuffled
        val = 0.5 + 0.1 * good + 0.001 * training.seed
        return {"arm": training.arm, "seed": training.seed, "val": val, "test": val}


def test_every_arm_tries_every_rate_with_every_weight() -> None:
    for arm in ARMS:
        tried = options(arm)
        assert len(tried) == len({tuple(values.items()) for values in tried}) == 9
        for values in tried:
            config = Training("digits", arm, values, 0, False).config()
            assert (config.teacher.name is None) == (arm == "direct")
            side = arm.rpartition("-")[2]
            if arm.startswith("gram"):
                assert str(config.loss.relation.pool) == side
            if arm.startswith("feature"):
                assert str(config.loss.feature.pool) == side
        rates = {values["optimizer.lr"] for values in tried}
        assert rates == set(RATES) if arm != "direct" else rates > set(RATES)
    assert cost() == {"tuning": 198, "final": 110}


def test_rate_and_weight_are_chosen_together_on_validation() -> None:
    run = FakeRuns()
    chosen, best = tuned(Study("digits", run))
    assert best == "gram-full"
    assert chosen[best]["optimizer.lr"] == 0.3
    assert chosen[best]["loss.relation.weight"] == WEIGHTS["gram"][1]
    own = {"optimizer.lr": 0.1, "loss.relation.weight": WEIGHTS["gram"][0], "loss.relation.shuffle": True}
    assert chosen["shuffled"] == chosen[best] | own, "tuned like the others"
    assert len(run.requested) == cost()["tuning"]
    assert {training.seed for training in run.requested} == set(TUNED_BY)
    assert not any(training.final for training in run.requested)


def test_the_claims_compare_equal_sides_and_are_all_in_the_table() -> None:
    run = FakeRuns()
    lines = list(findings(Study("digits", run), run))
    for side in SIDES:
        assert any(f"feature-{side} − gram-{side}" in line for line in lines)
    rows = [line for line in lines if " − " in line]
    assert len(rows) == len(claims("gram-full")) == 8
    assert any(line.startswith("| what the relations say helps: gram-full − shuffled | +10.00") for line in rows)
    assert {t.seed for t in run.requested if t.final} == set(SEEDS)
