"""The plan of replicates and seeds: from a pilot's variances and times, and without one."""

import dataclasses
from pathlib import Path

import pytest

from analysis.pilot import Pilot
from analysis.planning import Variances, power
from tune.description.allocation import allocation, rows, sentences, without_pilot
from tune.description.sweep import SweepConfig

SWEEP = {
    "name": "s",
    "dataset": {"name": "digits"},
    "student": {"architecture": "resnet8"},
    "train": {"epochs": 12},
    "arms": {"direct": {}, "homogeneous": {"teachers": ["resnet8"]}, "heterogeneous": {"teachers": ["vgg8"]}},
    "search": {"trials": 8},
    "verify": {"seeds": 10},
}
PILOT = Pilot(
    Variances(1e-4, 2.5e-5), Variances(4e-4, 2.5e-5), "replicates", 3,
    epoch_seconds=1.0, trained=0.5, at_once=2.0, gpus=0.25,
)  # fmt: skip


def test_a_plan_is_the_cheapest_with_the_power_and_its_cost_adds_up() -> None:
    planned = allocation(SweepConfig.model_validate(SWEEP | {"replicates": 3}), "s.yaml", {"digits": PILOT}, 0.02)
    plan = planned["plan"]
    assert planned["comparisons"] == 3
    assert plan["power"] >= 0.8
    assert plan["power"] == power(0.02, PILOT.variances.of_difference(plan["seeds"]), plan["replicates"], 3)
    assert plan["trainings"] == plan["replicates"] * 3 * (8 + plan["seeds"])
    assert plan["epochs"] == 12 * plan["trainings"]
    assert plan["hours"] == pytest.approx(plan["replicates"] * 3 * 12 * (8 * 0.5 + plan["seeds"]) / 3600)
    assert plan["hours_at_once"] == plan["hours"] / 2
    assert plan["gpu_hours"] == plan["hours"] / 4  # as the pilot's trials, since `gpus` is auto
    assert planned["cautious"]["replicates"] > plan["replicates"]
    assert planned["now"]["power"] < plan["power"]
    assert rows(planned)[0]["replicates"] == str(plan["replicates"])
    text = " ".join(sentences(planned))
    assert f"`replicates: {plan['replicates']}`" in text
    assert "As it is, with 3 replicates and 10 seeds" in text


def test_a_plan_for_several_data_sets_is_enough_on_each() -> None:
    worse = dataclasses.replace(PILOT, variances=Variances(4e-4, 1e-4), epoch_seconds=3.0)
    planned = allocation(SweepConfig.model_validate(SWEEP), "s.yaml", {"digits": PILOT, "cifar10": worse}, 0.02)
    assert planned["plan"]["replicates"] >= planned["datasets"]["cifar10"]["plan"]["replicates"]
    assert [row["data"] for row in rows(planned)] == ["digits", "cifar10", "all"]
    assert planned["plan"]["trainings"] == 2 * planned["plan"]["replicates"] * 3 * (8 + planned["plan"]["seeds"])


def test_gpu_hours_and_ranking_count() -> None:
    more = {"resources": {"gpus": 1}, "verify": {"seeds": 10, "top": 3, "rank_seeds": 2}}
    planned = allocation(SweepConfig.model_validate(SWEEP | more), "s.yaml", {"digits": PILOT}, 0.02)
    plan = planned["plan"]
    assert plan["gpu_hours"] == plan["hours"] > 0
    assert plan["trainings"] == plan["replicates"] * 3 * (8 + 6 + plan["seeds"])


@pytest.mark.parametrize(("resources", "share"), [
    ({"gpus": 0}, 0.0), ({"gpus": 0.5}, 0.5), ({"gpus": 1, "pack": 4}, 0.25), ({"gpus": 1, "pack": "auto"}, 0.25),
])  # fmt: skip
def test_gpu_hours_are_what_a_training_has_of_a_gpu(resources: dict[str, object], share: float) -> None:
    sweep = SweepConfig.model_validate(SWEEP | {"resources": resources})
    plan = allocation(sweep, "s.yaml", {"digits": PILOT}, 0.02)["plan"]
    assert plan["gpu_hours"] == pytest.approx(share * plan["hours"])
    unknown = allocation(sweep, "s.yaml", {"digits": dataclasses.replace(PILOT, gpus=float("nan"))}, 0.02)
    assert rows(unknown)[0]["GPU-hours"] == ("–" if "auto" in resources.values() else f"{share * plan['hours']:.3g}")


def test_an_arm_that_may_spend_all_epochs_trains_all_of_them() -> None:
    sweep = SweepConfig.model_validate(SWEEP | {"search": {"trials": 8, "fair": "compute"}})
    plan = allocation(sweep, "s.yaml", {"digits": PILOT}, 0.02)["plan"]
    assert plan["hours"] == pytest.approx(plan["replicates"] * 3 * 12 * (8 + plan["seeds"]) / 3600)


def test_one_search_is_a_poor_pilot() -> None:
    poor = dataclasses.replace(PILOT, source="trials", searches=1)
    planned = allocation(SweepConfig.model_validate(SWEEP), "s.yaml", {"digits": poor}, 0.02)
    assert any("estimated from the trials of one search" in line for line in sentences(planned))


def test_without_a_pilot_differences_are_in_standard_deviations() -> None:
    planned = without_pilot(SweepConfig.model_validate(SWEEP), str(Path("s.yaml")))
    found = {row["replicates"]: row for row in planned["replicates"]}
    assert found[7]["trainings"] == 7 * 3 * 18
    sds = [row["finds with 80 % power, sd"] for row in planned["replicates"]]
    assert sds == sorted(sds, reverse=True)
    assert power(sds[3], 1.0, 7, 3) == pytest.approx(0.8, abs=0.01)
