"""The plan of a sweep: its cost, part by part, and the table of a dry run."""

from pathlib import Path
from typing import Any

from rich.console import Console

from supersnn.config_model import parse
from supersnn.data import inspect
from tune.description.arms import resolve
from tune.description.inspection import inspect_sweep
from tune.description.plan import cost, plan, plan_table
from tune.description.sweep import SweepConfig
from tune.store import Store

PLAIN: dict[str, Any] = {
    "name": "dear",
    "dataset": {"name": "digits"},
    "student": {"architecture": "resnet8"},
    "teacher": {"epochs": 7},
    "train": {"epochs": 5},
    "arms": {
        "direct": {},
        "homogeneous": {"teachers": ["resnet14"]},
        "heterogeneous": {"teachers": ["vgg8", "wrn16_2"]},
        "logit": {"teachers": ["vgg8"]},
    },
    "search": {"trials": 6},
    "verify": {"seeds": 9},
}


def described(**changes: Any) -> SweepConfig:
    return parse(SweepConfig, {**PLAIN, **changes}, "test")


def costs(**changes: Any) -> dict[str, dict[str, int]]:
    sweep = described(**changes)
    return cost(sweep, resolve(sweep))


def test_a_plain_sweep_trains_teachers_trials_and_verifications() -> None:
    assert costs() == {
        "teachers": {"trainings": 3, "epochs_each": 7, "epochs": 21},
        "search": {"trainings": 24, "epochs_each": 5, "epochs": 120},
        "verification": {"trainings": 36, "epochs_each": 5, "epochs": 180},
        "total": {"trainings": 63, "epochs": 321},
    }


def test_several_seeds_a_trial_multiply_its_cost() -> None:
    assert costs(search={"trials": 6, "seeds_per_trial": 3})["search"]["epochs"] == 3 * 120


def test_ranking_costs_its_seeds_for_every_possible_candidate() -> None:
    parts = costs(verify={"seeds": 9, "top": 4, "rank_seeds": 2})
    assert parts["ranking"] == {"trainings": 4 * 2 * 4, "epochs_each": 5, "epochs": 160}
    assert parts["total"]["epochs"] == 321 + 160
    assert costs(verify={"seeds": 9, "top": 40, "rank_seeds": 2})["ranking"]["trainings"] == 6 * 2 * 4


def test_teachers_are_refitted_where_final_runs_see_more_images() -> None:
    parts = costs(verify={"seeds": 9, "train_on": "train+validation"})
    assert parts["refitted_teachers"] == {"trainings": 3, "epochs_each": 7, "epochs": 21}
    assert parts["total"]["epochs"] == 321 + 21
    arms = {"direct": {}, "heterogeneous": {"teachers": ["vgg8", "wrn16_2"]}}
    assert costs(arms=arms, verify={"train_on": "train+validation"})["refitted_teachers"]["trainings"] == 1
    assert "refitted_teachers" not in costs(arms={"direct": {}}, verify={"train_on": "train+validation"})


def test_the_table_has_a_line_a_part_and_the_total() -> None:
    sweep = described(verify={"seeds": 9, "top": 2, "rank_seeds": 3, "train_on": "train+validation"})
    console = Console(width=160)
    with console.capture() as shown:
        console.print(plan_table(plan(sweep, resolve(sweep))))
    rows = [line.split() for line in shown.get().splitlines()]
    for row in (
        "teachers 3 7 21",
        "search 24 5 120",
        "ranking 24 5 120",
        "refitted teachers 3 7 21",
        "verification 36 5 180",
    ):
        assert row.split() in rows
    assert ["total", "90", "462"] in rows


def test_the_plan_has_what_is_known_of_the_images() -> None:
    sweep = described()
    arms = resolve(sweep)
    found = plan(sweep, arms, {"": inspect(sweep.dataset)})
    data = found["data"]
    assert (data["train"], data["validation"], data["test"], len(data["classes"])) == (1222, 216, 359, 10)
    assert data["shape"] == {"channels": 1, "side": 8}
    console = Console(width=160)
    with console.capture() as shown:
        console.print(plan_table(found))
    assert "digits: 10 classes, 1×8×8, 1222 train" in shown.get()
    assert "data" not in plan(sweep, arms)


def test_the_plan_has_what_is_known_of_the_images_of_each_data_set(tmp_path: Path) -> None:
    few = {"name": "digits", "images": 300}
    sweep = described(dataset={"validation": 0.2}, datasets={"summary": {"name": "digits"}, "few": few})
    arms = resolve(sweep)
    found = plan(sweep, arms, inspect_sweep(sweep, arms, Store(tmp_path), "test"))
    assert {label: data["train"] for label, data in found["data"].items()} == {"summary": 1150, "few": 240}
    console = Console(width=160)
    with console.capture() as shown:
        console.print(plan_table(found))
    assert "1150 train" in shown.get()
    assert "240 train" in shown.get()
