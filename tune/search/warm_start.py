"""Warm starts: what a search takes over from the studies of earlier sweeps."""

from collections.abc import Mapping
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from supersnn.records.trial_state import rank
from tune.description.arms import Arm
from tune.description.searches import PlannedSearch
from tune.notices import WarmStarted
from tune.search.arm_study import ArmStudy
from tune.search.study_attributes import DESIGNS, SOURCE, TASK, WARM, existing_study, is_feasible
from tune.search.tasks import SplitOf, no_splits, task

TRANSFERRED = 3
"""How many trials of another task become start designs."""


def take_over(study: ArmStudy, storage: BaseStorage, split_of: SplitOf = no_splits) -> list[WarmStarted]:
    """Let a search learn from the studies of each earlier sweep under `search.warm_start`, once from each.

    Returns what it has taken over now.

    Args:
        study: of the search.
        storage: of the earlier studies.
        split_of: finds the fingerprints of splits, this sweep's included.
    """
    search, taken = study.search, []
    for earlier in search.sweep.search.warm_start:
        if _is_complete(study, earlier):
            continue
        if (known := _earlier_study(earlier, search, storage)) is not None:
            there = split_of(earlier, known.study_name.removeprefix(f"{earlier}/"))
            here = split_of(search.sweep.name, search.name)
            taken.append(_learn(study, known, earlier, same_images=None in (there, here) or there == here))
    return taken


def _earlier_study(sweep: str, search: PlannedSearch, storage: BaseStorage) -> Study | None:
    """Return an earlier sweep's study of the same search, or else of its arm; None where there is neither."""
    names = dict.fromkeys((search.name, search.arm.name))
    return next((study for name in names if (study := existing_study(f"{sweep}/{name}", storage))), None)


def _is_complete(study: ArmStudy, sweep: str) -> bool:
    """Return whether a warm start from an earlier sweep is complete."""
    if sweep in study.attributes.get(WARM, []):
        return True
    return any(SOURCE not in trial.user_attrs for trial in study.taken_from(sweep))  # noted there alone, formerly


def _learn(study: ArmStudy, earlier: Study, sweep: str, same_images: bool) -> WarmStarted:
    """Learn from an earlier sweep's study of this search; values outside this arm's space are left out.

    Of the same task (`tasks.task`) and the same images the sampler gets its finished trials with their values, marked
    and never counted. Of another task, whose values say little of this one's, the best three trials are start designs
    and nothing else is taken: a transfer. Returns which it was, and of how many trials.

    Args:
        study: of the search.
        earlier: the study to learn from.
        sweep: the name of the earlier sweep.
        same_images: False where both splits' fingerprints are known, and differ.
    """
    arm = study.arm
    complete = [trial for trial in earlier.get_trials(deepcopy=False) if trial.state == TrialState.COMPLETE]
    usable = [(trial, params) for trial in complete if (params := _within(arm, trial.params))]
    if same := same_images and earlier.user_attrs.get(TASK) == task(study.search):
        there = {trial.user_attrs[SOURCE] for trial in study.taken_from(sweep)}  # a driver may have died half-way
        for trial, params in usable:
            if trial.number not in there:
                study.add(_known_trial(arm, trial, params, sweep))
    else:
        eligible = [(trial, params) for trial, params in usable if is_feasible(trial)]
        eligible.sort(key=lambda pair: rank(pair[0].values[0], pair[0].number))
        designs = [params for _, params in eligible[:TRANSFERRED]]
        study.note(DESIGNS, {**study.attributes.get(DESIGNS, {}), sweep: designs})
    study.note(WARM, [*study.attributes.get(WARM, []), sweep])
    taken = len(usable) if same else len(designs)
    return WarmStarted(study.search.name, sweep, "same task" if same else "transfer", taken)


def _known_trial(arm: Arm, trial: FrozenTrial, params: dict[str, Any], sweep: str) -> FrozenTrial:
    return optuna.trial.create_trial(
        values=trial.values,
        params=params,
        distributions={key: arm.parameters[key].distribution() for key in params},
        constraints=trial.constraints,
        user_attrs={WARM: sweep, SOURCE: trial.number},
    )


def _within(arm: Arm, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of keys that an arm searches too; nothing where one lies outside its range."""
    shared = {key: value for key, value in params.items() if key in arm.parameters}
    for key, value in shared.items():
        distribution = arm.parameters[key].distribution()
        try:
            if not distribution._contains(distribution.to_internal_repr(value)):
                return {}
        except ValueError:
            return {}
    return shared
