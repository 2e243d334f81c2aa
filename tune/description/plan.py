"""What a sweep would do, before it does it: arms, space, budget, resources, and the cost in trials times epochs."""

from collections.abc import Mapping
from typing import Any

from rich.console import Group
from rich.table import Table

from tune.description.arms import Arm
from tune.description.space import Knob
from tune.description.sweep import SweepConfig


def plan(sweep: SweepConfig, arms: Mapping[str, Arm]) -> dict[str, Any]:
    """Return the plan as plain values. `epochs` are upper bounds: early stopping spends fewer."""
    trials, epochs = sweep.search.trials, sweep.train.epochs
    teachers = sorted({teacher for arm in arms.values() for teacher in arm.teachers})
    return {
        "sweep": sweep.name,
        "arms": {name: _arm(arm) for name, arm in arms.items()},
        "search": sweep.search.model_dump(mode="json") | {"startup": sweep.search.startup_trials()},
        "resources": sweep.resources.model_dump(mode="json"),
        "cost": {
            "teacher_epochs": len(teachers) * sweep.teacher.epochs,
            "search_trials": trials * len(arms),
            "search_epochs": trials * len(arms) * epochs,
            "verify_trainings": sweep.verify.seeds * len(arms),
            "verify_epochs": sweep.verify.seeds * len(arms) * epochs,
        },
    }


def _arm(arm: Arm) -> dict[str, Any]:
    return {
        "students": list(arm.students),
        "teachers": list(arm.teachers),
        "losses": list(arm.terms),
        "space": {key: _shown(knob) for key, knob in arm.knobs.items()},
    }


def _shown(knob: Knob) -> dict[str, Any]:
    return knob.model_dump(mode="json", exclude_none=True)


def plan_table(plan: Mapping[str, Any]) -> Group:
    """Return the plan drawn for a terminal."""
    arms = Table(title=f"{plan['sweep']}: arms", title_justify="left", box=None, pad_edge=False)
    for column in ("arm", "students", "teachers", "losses"):
        arms.add_column(column)
    for name, arm in plan["arms"].items():
        arms.add_row(name, *(" ".join(arm[key]) or "–" for key in ("students", "teachers", "losses")))
    space = Table(title="space", title_justify="left", box=None, pad_edge=False)
    for column in ("knob", "range", "arms"):
        space.add_column(column)
    for key, shown in dict.fromkeys((key, str(k)) for a in plan["arms"].values() for key, k in a["space"].items()):
        having = [name for name, arm in plan["arms"].items() if str(arm["space"].get(key)) == shown]
        space.add_row(key, shown.strip("{}").replace("'", ""), " ".join(having))
    cost = Table(title="at most", title_justify="left", box=None, pad_edge=False, show_header=False)
    for key, value in plan["cost"].items():
        cost.add_row(key.replace("_", " "), str(value))
    for key in ("search", "resources"):
        cost.add_row(key, "  ".join(f"{name} {value}" for name, value in plan[key].items() if value is not None))
    return Group(arms, "", space, "", cost)
