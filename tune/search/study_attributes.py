"""What the studies keep beside Optuna's own data: attributes of studies and trials, and what they say."""

import itertools
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from supersnn.digests import digest
from tune.description.arms import Arm
from tune.description.sweep import SweepConfig

STOP, END, WARM, OPS, BOUNDED = "stopped_after", "end", "warm_start", "synaptic_ops", "bounded_metrics"
"""User attributes of a trial: the epoch after which it was to stop, how it ended, the sweep it was taken over from,
and (of a rung's trial), by step: its accuracy, synaptic operations and feasibility; its constrained metrics."""
EXCESS = "predicted_excess"
"""The user attribute of a rung's trial that is to stop with by how much it exceeds each bound, as its rung predicts."""
SPENT = "epochs"
"""The user attribute of a trial with the epochs that it has had, where it ended between two steps of its rungs."""

TASK, DESIGNS, IDENTITY = "task", "start_designs", "sweep_id"
"""User attributes of a study: what its values are comparable with, start designs by the sweep they are from, and the
identity of the sweep that it belongs to (`SweepState.identity`)."""
REQUEST, SPACE = "request", "space"
"""The user attribute of a trial with the id of the request that gave its values, and that of a study with a digest of
its search space."""
SOURCE = "warm_start_trial"
"""The user attribute of a trial that was taken over with its number there."""


def start_designs(sweep: SweepConfig, study: Study) -> list[dict[str, Any]]:
    """Return the values that an arm tries first: those of the sweep file, then the best of other tasks."""
    transferred = study.user_attrs.get(DESIGNS, {}).values()
    return [dict(values) for values in (*sweep.search.enqueue, *itertools.chain(*transferred))]


def space_digest(arm: Arm) -> str:
    """Return a digest of an arm's search space."""
    return digest({key: parameter.model_dump(mode="json") for key, parameter in arm.parameters.items()})


def end_of(trial: FrozenTrial) -> str:
    """Return how a trial of a search's study ended."""
    return str(trial.user_attrs.get(END, "stopped" if trial.state == TrialState.PRUNED else "failed:unknown"))


def constrain(trial: Trial, excesses: Mapping[str, float]) -> None:
    """Set a trial's constraints, but those that an earlier driver has set already."""
    for metric, excess in excesses.items():
        if metric not in trial.constraints:
            trial.set_constraint(metric, excess)


def is_feasible(trial: FrozenTrial) -> bool:
    """Return whether a trial that was trained to its end is within the constraints."""
    return all(excess <= 0 for excess in trial.constraints.values())


def existing_study(name: str, storage: BaseStorage) -> Study | None:
    """Return a study, None where there is none of that name."""
    try:
        return optuna.load_study(study_name=name, storage=storage)
    except KeyError:
        return None
