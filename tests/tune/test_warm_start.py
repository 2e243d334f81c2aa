"""Warm starts: what a search takes over from an earlier sweep, of the same task and of another."""

import math
import statistics
from collections.abc import Mapping
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial

from supersnn.config_model import parse, with_values
from supersnn.records.state import SweepState
from tests.support.studies import ARMS, end, studies, sweep
from tune.description.searches import planned
from tune.description.sweep import SweepConfig
from tune.notices import WarmStarted
from tune.search.rebuild import with_other_space
from tune.search.studies import Studies


def begun(config: SweepConfig, storage: optuna.storages.BaseStorage) -> tuple[Studies, list[WarmStarted]]:
    """Return the studies of a sweep, and what they take over from earlier ones now."""
    found = Studies(config, planned(config), storage)
    return found, found.warm_start()


def test_a_warm_start_is_known_to_the_sampler_and_counted_by_nobody() -> None:
    storage = optuna.storages.InMemoryStorage()
    earlier = sweep(trials=3)
    live = studies(earlier, storage)
    while (assignment := live.next()) is not None:
        end(live, assignment.key, 0.9)
    later = earlier.model_copy(update={"name": "later"})
    later = later.model_copy(update={"search": later.search.model_copy(update={"warm_start": ("tiny",)})})
    warm, taken = begun(later, storage)
    assert taken == [WarmStarted(arm, "tiny", "same task", 3) for arm in ARMS]
    assert begun(later, storage)[1] == []
    assert all(counts.suggested == 0 for counts in warm.counts.values())
    assert warm.best == {}
    known = optuna.load_study(study_name="later/direct", storage=storage).trials
    assert [trial.user_attrs["warm_start"] for trial in known] == ["tiny"] * 3
    keys = []
    while (assignment := warm.next()) is not None:
        keys.append(assignment.key)
        end(warm, assignment.key, 0.1)
    assert len(keys) == 9
    assert len(optuna.load_study(study_name="later/direct", storage=storage).trials) == 6
    assert warm.best["direct"][0] == 0.1
    assert len(studies(later, storage).ended()) == 9


def test_a_warm_start_from_another_task_gives_start_designs_and_no_values() -> None:
    storage = optuna.storages.InMemoryStorage()
    earlier = sweep(trials=6)
    live = studies(earlier, storage)
    found: dict[str, list[tuple[float, object]]] = {arm: [] for arm in ARMS}
    while (assignment := live.next()) is not None:
        value = (assignment.number * 7 % 6) / 10
        found[assignment.search.arm.name].append((value, assignment.values))
        end(live, assignment.key, value)
    later = with_values(earlier, {"name": "later", "train.epochs": 5, "search.warm_start": ["tiny"]})
    warm, taken = begun(later, storage)
    assert taken == [WarmStarted(arm, "tiny", "transfer", 3) for arm in ARMS]
    known = optuna.load_study(study_name="later/direct", storage=storage).get_trials(deepcopy=False)
    assert known == []
    started: dict[str, list[object]] = {arm: [] for arm in ARMS}
    for _ in range(9):
        assignment = warm.next()
        assert assignment is not None
        started[assignment.search.arm.name].append(assignment.values)
        warm = studies(later, storage)  # a restart loses none of them
        again = warm.next()
        assert again is not None
        end(warm, again.key, 0.1)
    for arm, values in started.items():
        best = sorted(found[arm], key=lambda pair: -pair[0])[:3]
        assert values == [params for _, params in best]


def test_a_warm_start_of_the_same_task_keeps_constraints_and_survives_a_death(monkeypatch: pytest.MonkeyPatch) -> None:
    storage = optuna.storages.InMemoryStorage()
    earlier = sweep(trials=4, constraints={"spikes/rate": 0.45}, sampler="tpe")
    live = studies(earlier, storage)
    while (assignment := live.next()) is not None:
        end(live, assignment.key, 0.3 + assignment.number / 10)
    later = with_values(earlier, {"name": "later", "search.warm_start": ["tiny"]})
    real, added = optuna.Study.add_trial, list[object]()

    def dies(study: optuna.Study, trial: FrozenTrial) -> None:
        if len(added) == 2:
            raise KeyboardInterrupt
        added.append(trial)
        real(study, trial)

    with monkeypatch.context() as patch:
        patch.setattr(optuna.Study, "add_trial", dies)
        with pytest.raises(KeyboardInterrupt):
            studies(later, storage)
    for _ in range(2):
        studies(later, storage)
    for arm in ARMS:
        known = optuna.load_study(study_name=f"later/{arm}", storage=storage).get_trials(deepcopy=False)
        assert [trial.user_attrs["warm_start_trial"] for trial in known] == [0, 1, 2, 3]
        feasible = [all(excess <= 0 for excess in trial.constraints.values()) for trial in known]
        assert feasible == [True, True, False, False]


def test_another_judgement_is_another_task() -> None:
    storage = optuna.storages.InMemoryStorage()
    earlier = sweep(trials=3)
    live = studies(earlier, storage)
    while (assignment := live.next()) is not None:
        end(live, assignment.key, 0.5)
    changes: list[dict[str, object]] = [
        {"search.objectives": ["accuracy", "synaptic_ops"]},
        {"search.constraints": {"spikes/rate": 0.1}},
        {"search.seeds_per_trial": 2},
        {"student.time_steps": 4},
        {"dataset.split_seed": 1},
    ]
    for number, change in enumerate(changes):
        later = with_values(earlier, {"name": f"later{number}", "search.warm_start": ["tiny"], **change})
        studies(later, storage)
        known = optuna.load_study(study_name=f"later{number}/direct", storage=storage)
        assert known.get_trials(deepcopy=False) == []
        assert len(known.user_attrs["start_designs"]["tiny"]) == 3


def warm(earlier: SweepConfig, later: SweepConfig) -> tuple[int, int]:
    """Return how many trials and how many start designs the direct arm takes over from an earlier sweep of 3 trials."""
    storage = optuna.storages.InMemoryStorage()
    live = studies(earlier, storage)
    while (assignment := live.next()) is not None:
        end(live, assignment.key, 0.5)
    studies(with_values(later, {"name": "later", "search.warm_start": ["tiny"]}), storage)
    found = optuna.load_study(study_name="later/direct", storage=storage)
    designs = found.user_attrs.get("start_designs", {}).get("tiny", [])
    return len(found.get_trials(deepcopy=False)), len(designs)


def direct(space: Mapping[str, object] | None = None, **arm: Any) -> SweepConfig:
    """Return a sweep with a direct arm."""
    plain = sweep(trials=3).model_dump(mode="json")
    searched = {"optimizer.lr": "default", **(space or {})}
    return parse(SweepConfig, {**plain, "arms": {"direct": arm}, "space": searched}, "test")


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ({"students": ["vgg8"]}, {"students": ["resnet8"]}),
        ({"students": ["vgg8", "resnet8"]}, {"students": ["resnet8"]}),
        ({}, {"set": {"student.time_steps": 4}}),
        ({"set": {"neuron.reset": "soft"}}, {"set": {"neuron.reset": "hard"}}),
        ({"space": {"neuron.reset": "default"}}, {"set": {"neuron.reset": "hard"}}),
        ({}, {"set": {"train.batch_size": 32}}),
    ],
)
def test_a_task_is_of_the_arms_own_students_and_fixed_keys(before: dict[str, Any], now: dict[str, Any]) -> None:
    assert warm(direct(**before), direct(**now)) == (0, 3)
    assert warm(direct(**now), direct(**now)) == (3, 0)


def test_a_study_without_trials_is_made_anew_for_an_arm_that_has_changed() -> None:
    """Else its trials would count as those of the arm as it was, for later warm starts."""
    storage = optuna.storages.InMemoryStorage()
    studies(direct(students=["vgg8"]), storage)
    for students, left in ((["vgg8"], 1), (["resnet8"], 0)):
        assert with_other_space(planned(direct(students=students)).values(), storage, SweepState()) == []
        assert len(optuna.get_all_study_names(storage)) == left


def test_a_task_is_the_same_whatever_changes_rounding_or_is_searched() -> None:
    space = {"neuron.decay": {"uniform": [0.1, 0.9]}}
    wider = direct(space={"neuron.decay": {"uniform": [0.05, 0.95]}})
    assert warm(direct(space=space), with_values(wider, {"train.threads": 2, "dataset.augment.flip": True})) == (3, 0)
    assert warm(direct(students=["resnet8"]), direct()) == (3, 0)


@pytest.mark.parametrize("same_task", [True, False])
@pytest.mark.parametrize("moved", [0.0, 0.9])
def test_a_warm_start_helps_where_optima_agree_and_costs_little_where_they_differ(
    same_task: bool, moved: float
) -> None:
    """Values of the same task are known to the sampler; another task's best trials are only tried first."""
    if same_task and moved:
        pytest.skip("the same task has the same optimum")

    def best(config: SweepConfig, storage: optuna.storages.BaseStorage, optimum: float) -> float:
        live = studies(config, storage)
        while (assignment := live.next()) is not None:
            threshold = float(str(assignment.values["neuron.threshold"]))
            rate = math.log10(float(str(assignment.values["optimizer.lr"])) / 0.05)
            end(live, assignment.key, 0.9 - 0.1 * (threshold - optimum) ** 2 - 0.05 * rate**2)
        return statistics.fmean(value for value, _ in live.best.values())

    leads = []
    for seed in range(10):
        storage = optuna.storages.InMemoryStorage()
        first = with_values(sweep(trials=30, sampler="tpe"), {"seed": seed})
        best(first, storage, 0.7)
        later = {"name": "later", "search.trials": 10, "seed": 100 + seed}
        later |= {} if same_task else {"train.epochs": 5}
        cold = best(with_values(first, later), storage, 0.7 + moved)
        warm = with_values(first, later | {"name": "warm", "search.warm_start": ["tiny"]})
        leads.append(best(warm, storage, 0.7 + moved) - cold)
    lead = statistics.fmean(leads)
    print(f"{100 * lead:+.2f} points")
    assert lead > 0 if moved == 0 else lead > -0.002
