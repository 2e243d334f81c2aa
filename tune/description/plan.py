"""The plan of a sweep for a dry run: arms, search space, budget, resources, and the cost in trainings and epochs."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rich.console import Group
from rich.markup import escape
from rich.table import Table

from supersnn.data import DataSummary
from supersnn.gpus import gpu_names
from tune.description.arms import Arm
from tune.description.devices import devices_text
from tune.description.replication import (
    labels,
    most_replicates,
    searches_per_arm,
    teachers_per_architecture,
    until,
)
from tune.description.space import SearchParameter
from tune.description.sweep import SweepConfig
from tune.description.target import target_lines, target_plan
from tune.description.warning_lines import warning_lines

FEW_CLASSES = 20
"""Classes whose images are counted one by one."""


def plan(sweep: SweepConfig, arms: Mapping[str, Arm], data: Mapping[str, DataSummary] | None = None) -> dict[str, Any]:
    """Return the plan as plain values; `cost` has the upper bounds of its trainings, `data` what is known of images.

    Where the sweep has several data sets, `data` has each by its label (`inspection.inspect_sweep`).

    `target` is what students exceed of their chip's limits (`tune.description.target`), where there is a target, and
    `warnings` are lines on what the description hardly means (`tune.description.warning_lines`), where there are any.
    """
    return {
        "sweep": sweep.name,
        **({} if data is None else {"data": _of_images(data)}),
        "arms": {name: _arm(arm) for name, arm in arms.items()},
        **({"datasets": list(labels(sweep))} if sweep.datasets else {}),
        **({"replicates": _replicates(sweep), "vary": list(sweep.vary)} if most_replicates(sweep) > 1 else {}),
        "search": sweep.search.model_dump(mode="json") | {"startup": sweep.search.startup_trials()},
        "resources": sweep.resources.model_dump(mode="json") | {"shards": sweep.train.shards},
        "devices": devices_text(sweep.resources, sweep.train.shards, gpu_names()),
        "cost": cost(sweep, arms),
        **({"target": found} if (found := target_plan(sweep, arms)) is not None else {}),
        **({"warnings": lines} if (lines := warning_lines(arms)) else {}),
    }


def _replicates(sweep: SweepConfig) -> int | dict[str, Any]:
    """Return the number of replicates, or what it depends on."""
    wanted = until(sweep)
    return most_replicates(sweep) if wanted is None else wanted.model_dump(mode="json")


def _replicates_text(value: int | Mapping[str, Any]) -> str:
    if isinstance(value, int):
        return str(value)
    aim = f"until all comparisons are known to ±{value['until']:g} points"
    return f"{value['at_least']} to {value['at_most']}, {aim}; the cost is that of {value['at_most']}"


def cost(sweep: SweepConfig, arms: Mapping[str, Arm]) -> dict[str, dict[str, int]]:
    """Return for each part of a sweep, and for the `total`, the maximum of its `trainings` and their `epochs`.

    Early stopping saves epochs; with `fair: compute` they are spent on further trials. The total's epochs are a sum
    over teachers and students, whose epochs take different times.
    """
    search, verify, epochs = sweep.search, sweep.verify, sweep.train.epochs
    teachers_by_arm = [arm.teachers for arm in arms.values() if arm.teachers]
    teachers = {teacher for names in teachers_by_arm for teacher in names}
    candidates = min(verify.top, search.trials)
    searches, taught = len(arms) * searches_per_arm(sweep), teachers_per_architecture(sweep)
    refitted = min(len(teachers_by_arm) * searches_per_arm(sweep), len(teachers) * taught)
    parts = {
        "teachers": (len(teachers) * taught, sweep.teacher.epochs),
        "search": (search.trials * searches * search.seeds_per_trial, epochs),
        "ranking": (candidates * verify.rank_seeds * searches if candidates > 1 else 0, epochs),
        "refitted_teachers": (refitted if verify.train_on != "train" else 0, sweep.teacher.epochs),
        "verification": (verify.seeds * searches, epochs),
    }
    costs = {name: {"trainings": n, "epochs_each": each, "epochs": n * each} for name, (n, each) in parts.items()}
    total = {key: sum(part[key] for part in costs.values()) for key in ("trainings", "epochs")}
    return {name: part for name, part in costs.items() if part["trainings"]} | {"total": total}


def _of_images(data: Mapping[str, DataSummary]) -> dict[str, Any]:
    """Return what is known of images: of one data set, or of several by label."""
    found = {label: _data(summary) for label, summary in data.items()}
    return found.get("", found)


def _data(data: DataSummary) -> dict[str, Any]:
    return {
        "name": data.name,
        "present": data.present,
        "shape": None if data.shape is None else data.shape._asdict(),
        "classes": dict(data.classes),
        "train": data.train,
        "validation": data.validation,
        "test": data.test,
        "skipped": [asdict(file) for file in data.skipped],
        "summary": str(data),
    }


def _arm(arm: Arm) -> dict[str, Any]:
    return {
        "students": list(arm.students),
        "teachers": list(arm.teachers),
        "losses": list(arm.terms),
        "space": {key: _range(parameter) for key, parameter in arm.parameters.items()},
    }


def _range(parameter: SearchParameter) -> dict[str, Any]:
    return parameter.model_dump(mode="json", exclude_none=True)


def _class_counts(classes: Mapping[str, int]) -> str:
    """Return the training images of each class; of many classes the smallest and the largest."""
    if len(classes) <= FEW_CLASSES:
        return ", ".join(f"{name} {count}" for name, count in classes.items())
    least, most = (choose(classes, key=lambda name: classes[name]) for choose in (min, max))
    return f"{len(classes)} classes, from {least} {classes[least]} to {most} {classes[most]}"


def _by_label(plan: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return what is known of the images of each data set."""
    found = plan.get("data", {})
    return list(found.values()) if "datasets" in plan else [found] if found else []


def plan_table(plan: Mapping[str, Any]) -> Group:
    """Return the plan as tables for a terminal."""
    arms = Table(title=f"{plan['sweep']}: arms", title_justify="left", box=None, pad_edge=False)
    for column in ("arm", "students", "teachers", "losses"):
        arms.add_column(column)
    for name, arm in plan["arms"].items():
        arms.add_row(name, *(" ".join(arm[key]) or "–" for key in ("students", "teachers", "losses")))
    space = Table(title="space", title_justify="left", box=None, pad_edge=False)
    for column in ("parameter", "range", "arms"):
        space.add_column(column)
    for key, text in dict.fromkeys((key, str(r)) for arm in plan["arms"].values() for key, r in arm["space"].items()):
        users = [name for name, arm in plan["arms"].items() if str(arm["space"].get(key)) == text]
        space.add_row(key, escape(text.strip("{}").replace("'", "")), " ".join(users))
    costs = Table(title="cost (upper bounds)", title_justify="left", box=None, pad_edge=False)
    costs.add_column("part")
    for column in ("trainings", "epochs each", "epochs"):
        costs.add_column(column, justify="right")
    for name, part in plan["cost"].items():
        numbers = (part.get(key) for key in ("trainings", "epochs_each", "epochs"))
        costs.add_row(name.replace("_", " "), *("" if number is None else f"{number:,}" for number in numbers))
    settings = Table(box=None, pad_edge=False, show_header=False)
    for key in ("datasets", "replicates", "vary"):
        if key in plan:
            value = _replicates_text(plan[key]) if key == "replicates" else " ".join(map(str, plan[key]))
            settings.add_row(key, escape(value))
    for key in ("search", "resources"):
        values = (f"{name} {value}" for name, value in plan[key].items() if value not in (None, [], {}))
        settings.add_row(key, escape("  ".join(values)))
    settings.add_row("devices", escape(f"on this machine: {plan['devices']}"))
    for data in _by_label(plan):
        settings.add_row("data", escape(data["summary"]))
        if data["classes"]:
            settings.add_row("classes", escape(_class_counts(data["classes"])))
    target = target_lines(plan["target"]) if "target" in plan else []
    warnings = [f"warning: {line}" for line in plan.get("warnings", ())]
    lines = [escape(line) for part in (target, warnings) if part for line in ("", *part)]
    return Group(arms, "", space, "", costs, "", settings, *lines)
