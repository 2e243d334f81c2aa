"""Scheduling of trials: fair at any moment, and complete after a driver died."""

import math
import statistics
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.trial import FrozenTrial, TrialState

from supersnn.config_model import parse, with_values
from tune.description.searches import planned
from tune.description.sweep import SweepConfig
from tune.search.arm_study import Assignment
from tune.search.samplers import TPE, _Horizon
from tune.search.studies import Studies, open_storage

ARMS = {"direct": {}, "homogeneous": {"teachers": ["resnet14"]}, "heterogeneous": {"teachers": ["vgg8", "wrn16_2"]}}


def sweep(
    trials: int = 5, scheduler: str = "none", sampler: str = "random", epochs: int = 9, **search: object
) -> SweepConfig:
    plain = {
        "name": "tiny",
        "dataset": {"name": "digits"},
        "student": {"architecture": "resnet8"},
        "train": {"epochs": epochs},
        "arms": ARMS,
        "space": {"neuron.threshold": "default", "optimizer.lr": "default", "loss.relation.weight": "default"},
        "search": {"trials": trials, "scheduler": scheduler, "sampler": sampler, **search},
    }
    return parse(SweepConfig, plain, "test")


def studies(config: SweepConfig, storage: optuna.storages.BaseStorage | None = None) -> Studies:
    return Studies(config, planned(config), storage or optuna.storages.InMemoryStorage())


def end(live: Studies, key: str, value: float, how: str = "finished", epoch: int = 9) -> None:
    live.report(key, epoch, {"val/accuracy": value, "ops/synaptic": 1000 * value, "spikes/rate": value})
    live.finish(key, how)


actions = st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["finished", "stopped", "failed:nan", "die"])))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(actions)
def test_arms_never_differ_by_more_than_one_whatever_happens(steps: list[tuple[int, str]]) -> None:
    """Hand out some trials, end one of those running, or lose the driver: the arms stay together."""
    config, storage = sweep(), optuna.storages.InMemoryStorage()
    live = studies(config, storage)
    running: list[Assignment] = []
    for count, how in steps:
        for _ in range(count):
            if (assignment := live.next()) is not None:
                running.append(assignment)
        suggested = [counts.suggested for counts in live.counts.values()]
        assert max(suggested) - min(suggested) <= 1
        if how == "die":
            lost, running = {assignment.key for assignment in running}, []
            live = studies(config, storage)
            assert [counts.suggested for counts in live.counts.values()] == suggested
            running = [assignment for assignment in (live.next() for _ in lost) if assignment is not None]
            assert {assignment.key for assignment in running} == lost
            suggested_now = [counts.suggested for counts in live.counts.values()]
            assert max(suggested_now) - min(suggested_now) <= 1
        elif running:
            first = running.pop(0)
            live.report(first.key, 1, {"val/accuracy": 0.5})
            live.finish(first.key, how)
    assert all(counts.suggested <= 5 for counts in live.counts.values())


def test_every_arm_gets_its_trials_and_no_more() -> None:
    live = studies(sweep(trials=4))
    keys = []
    while (assignment := live.next()) is not None:
        keys.append(assignment.key)
        end(live, assignment.key, 0.1 * len(keys) / 2)
    assert sorted(keys) == sorted(f"{arm}/{n}" for arm in ARMS for n in range(4))
    assert live.full()
    assert not live.under_way()
    assert {arm: number for arm, (_, number) in live.best.items()} == dict.fromkeys(ARMS, 3)


def test_an_interrupted_trial_comes_back_with_its_number_values_and_epochs() -> None:
    config, storage = sweep(sampler="tpe"), optuna.storages.InMemoryStorage()
    first = studies(config, storage)
    before = first.next()
    assert before is not None
    first.report(before.key, 1, {"val/accuracy": 0.3})
    first.report(before.key, 2, {"val/accuracy": 0.4})
    after = studies(config, storage).next()
    assert after is not None
    assert (after.key, after.values, after.config, after.reported) == (before.key, before.values, before.config, 2)


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc", "gp", "cmaes", "nsga2", "nsga3", "grid"])
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_the_same_seed_suggests_the_same_trials_however_often_the_driver_dies(sampler: str) -> None:
    trials = 4 if sampler == "gp" else 8  # its suggestions take seconds
    config = sweep(trials=trials, sampler=sampler, startup=3)

    def suggested(deaths: tuple[int, ...], seed: int = 0) -> list[tuple[str, object]]:
        storage, found = optuna.storages.InMemoryStorage(), list[tuple[str, object]]()
        seeded = config.model_copy(update={"seed": seed})
        live = studies(seeded, storage)
        for count in range(3 * trials):
            if count in deaths:
                live = studies(seeded, storage)
            assignment = live.next()
            assert assignment is not None
            if count in deaths:
                live = studies(seeded, storage)  # died before the trial's first report
                again = live.next()
                assert again is not None
                assert (again.key, again.values) == (assignment.key, assignment.values)
            found.append((assignment.key, assignment.values))
            values = assignment.values
            end(live, assignment.key, 1 - abs(float(str(values["neuron.threshold"])) - 1) / 2)
        return found

    uninterrupted = suggested(())
    assert suggested((1, 7, 10)) == uninterrupted
    values = [str(found) for _, found in uninterrupted]
    assert len(set(values)) > 2.5 * trials if sampler not in ("qmc", "grid") else len(set(values)) >= trials
    if sampler != "grid":
        assert suggested((), seed=1) != uninterrupted


def test_a_death_between_the_decision_to_stop_and_its_record_still_stops() -> None:
    config, storage = sweep(scheduler="asha", trials=9, min_epochs=1), optuna.storages.InMemoryStorage()
    live = studies(config, storage)
    stopped = None
    for value in (0.9, 0.8, 0.7, 0.2, 0.1, 0.05, 0.04, 0.03, 0.02):
        assignment = live.next()
        assert assignment is not None
        if live.report(assignment.key, 1, {"val/accuracy": value}) and stopped is None:
            stopped = assignment.key
    assert stopped is not None
    arm, number = stopped.split("/")
    again = studies(config, storage)
    assert again.counts[arm].stopped >= 1
    assert stopped in again.ended()
    assert again.ended()[stopped].end == "stopped"
    study = optuna.load_study(study_name=f"tiny/{arm}", storage=storage)
    assert study.trials[int(number)].state == TrialState.PRUNED


@pytest.mark.parametrize("scheduler", ["asha", "hyperband", "median"])
def test_early_stopping_ranks_an_arm_by_itself(scheduler: str) -> None:
    """One arm's values lie far below the others': it is stopped no more often than they are."""
    live = studies(sweep(trials=20, scheduler=scheduler))
    level = {"direct": 0.1, "homogeneous": 0.6, "heterogeneous": 0.6}
    while (assignment := live.next()) is not None:
        spread = (assignment.number * 7 % 20) / 100
        value = level[assignment.search.arm.name] + spread
        stopped = any(live.report(assignment.key, epoch, {"val/accuracy": value}) for epoch in range(1, 10))
        live.finish(assignment.key, "stopped" if stopped else "finished")
    stopped_by_arm = [counts.stopped for counts in live.counts.values()]
    assert min(stopped_by_arm) > 0
    assert max(stopped_by_arm) - min(stopped_by_arm) <= 3


def test_rungs_survive_a_restart_on_disk(tmp_path: Path) -> None:
    config = sweep(scheduler="asha", trials=12, min_epochs=1)
    url = f"sqlite:///{tmp_path / 'optuna.db'}"
    live = studies(config, open_storage(url))
    for value in (0.9, 0.91, 0.92, 0.8, 0.81, 0.82, 0.7, 0.71, 0.72):
        assignment = live.next()
        assert assignment is not None
        live.report(assignment.key, 1, {"val/accuracy": value})
        live.finish(assignment.key, "stopped")
    again = studies(config, open_storage(url))
    low = again.next()
    assert low is not None
    assert again.report(low.key, 1, {"val/accuracy": 0.1})


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc", "gp", "cmaes", "nsga2", "nsga3", "grid"])
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_every_sampler_fills_the_budget(sampler: str) -> None:
    live = studies(sweep(trials=6, sampler=sampler))
    while (assignment := live.next()) is not None:
        end(live, assignment.key, 0.5 + assignment.number / 100)
    assert all(counts.finished == 6 for counts in live.counts.values())


def test_a_grid_that_is_used_up_loses_no_end_of_a_trial() -> None:
    plain = sweep(trials=2, sampler="grid").model_dump(mode="json")
    space = {"neuron.reset": {"categorical": ["hard", "soft"]}}
    live = studies(parse(SweepConfig, {**plain, "arms": {"direct": {}}, "space": space}, "test"))
    tried = []
    while (assignment := live.next()) is not None:
        tried.append(assignment.values["neuron.reset"])
        end(live, assignment.key, 0.5)
    assert set(tried) == {"hard", "soft"}
    assert live.counts["direct"].finished == 2
    assert not live.under_way()


def test_with_equal_compute_an_arm_spends_what_its_early_stops_have_saved() -> None:
    """One arm's trials all stop after an epoch: it gets more of them, and no arm runs ahead in epochs."""
    live = studies(sweep(trials=4, fair="compute"))
    spent = dict.fromkeys(ARMS, 0)
    while (assignment := live.next()) is not None:
        epochs = 3 if assignment.search.arm.name == "direct" else 9
        end(live, assignment.key, 0.5, "stopped" if epochs < 9 else "finished", epochs)
        spent[assignment.search.arm.name] += epochs
        assert max(spent.values()) - min(spent.values()) <= 9
    assert set(spent.values()) == {4 * 9}
    assert live.counts["direct"].suggested == 12
    assert live.full()


@pytest.mark.parametrize("search", [{"scheduler": "wilcoxon"}, {}, {"objectives": ["accuracy", "synaptic_ops"]}])
def test_a_restarted_driver_knows_the_epochs_of_trials_that_failed_within_a_seed(search: dict[str, Any]) -> None:
    """Else an arm whose budget is spent would get further trials after each restart."""
    config, storage = sweep(trials=4, fair="compute", seeds_per_trial=2, **search), optuna.storages.InMemoryStorage()
    live = studies(config, storage)
    while (assignment := live.next()) is not None:
        epochs = 18 if assignment.number % 2 else 13
        for epoch in range(1, epochs + 1):
            live.report(assignment.key, epoch, {"val/accuracy": 0.5, "mean/val/accuracy": 0.5, "ops/synaptic": 9.0})
        live.finish(assignment.key, "finished" if epochs == 18 else "failed:nan")
    again = studies(config, storage)
    assert [vars(counts) for counts in again.counts.values()] == [vars(counts) for counts in live.counts.values()]
    assert again.counts["direct"].epochs == 13 + 18 + 13 + 18 + 13
    assert again.full()


def test_several_objectives_keep_the_front_and_still_stop() -> None:
    config, storage = sweep(trials=12, scheduler="asha", objectives=["accuracy", "synaptic_ops"]), None
    storage = optuna.storages.InMemoryStorage()
    live = studies(config, storage)
    ends: dict[str, str] = {}
    while (assignment := live.next()) is not None:
        accuracy = (assignment.number * 5 % 12) / 12
        ops = 1.0 if assignment.number == 7 else 100 + accuracy
        if assignment.number % 4 == 3:
            ops += 500
        metrics = {"val/accuracy": accuracy, "ops/synaptic": ops}
        stopped = any(live.report(assignment.key, epoch, metrics) for epoch in range(1, 10))
        live.finish(assignment.key, "stopped" if stopped else "finished")
        ends[assignment.key] = "stopped" if stopped else "finished"
    counts = live.counts["direct"]
    assert counts.stopped > 0
    assert counts.stopped == sum(e == "stopped" for key, e in ends.items() if key.startswith("direct"))
    again = studies(config, storage)
    assert vars(again.counts["direct"]) == vars(counts)
    assert again.best == live.best


def test_an_interrupted_trial_of_several_objectives_goes_on() -> None:
    config = sweep(objectives=["accuracy", "synaptic_ops"], sampler="nsga2")
    storage = optuna.storages.InMemoryStorage()
    first = studies(config, storage)
    before = first.next()
    assert before is not None
    first.report(before.key, 1, {"val/accuracy": 0.4, "ops/synaptic": 9.0})
    live = studies(config, storage)
    after = live.next()
    assert after is not None
    assert (after.key, after.values, after.reported) == (before.key, before.values, 1)
    end(live, after.key, 0.7)
    assert live.best["direct"] == (0.7, 0)


def test_a_trial_beyond_a_constraint_never_wins() -> None:
    live = studies(sweep(trials=3, constraints={"spikes/rate": 0.45}, sampler="tpe"))
    while (assignment := live.next()) is not None:
        end(live, assignment.key, 0.3 + assignment.number / 10)
    assert all(number == 1 for _, number in live.best.values())
    assert [number for _, number in live.ranking("direct")] == [1, 0]


def test_enqueued_values_come_first() -> None:
    wanted = {"neuron.threshold": 0.77, "optimizer.lr": 0.05, "loss.relation.weight": 12.0}
    live = studies(sweep(sampler="tpe", enqueue=[wanted]))
    for _ in ARMS:
        assignment = live.next()
        assert assignment is not None
        assert assignment.values["neuron.threshold"] == 0.77
        assert assignment.values["optimizer.lr"] == 0.05


def test_a_warm_start_is_known_to_the_sampler_and_counted_by_nobody() -> None:
    storage = optuna.storages.InMemoryStorage()
    earlier = sweep(trials=3)
    live = studies(earlier, storage)
    while (assignment := live.next()) is not None:
        end(live, assignment.key, 0.9)
    later = earlier.model_copy(update={"name": "later"})
    later = later.model_copy(update={"search": later.search.model_copy(update={"warm_start": ("tiny",)})})
    warm = studies(later, storage)
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
    warm = studies(later, storage)
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


def test_a_design_varies_conditional_parameters_too() -> None:
    space = {
        "neuron.reset": {"categorical": ["hard", "soft"]},
        "neuron.width": {"log": [0.25, 4.0], "when": {"neuron.reset": "soft"}},
    }
    config = parse(SweepConfig, {**sweep(trials=24, sampler="qmc").model_dump(mode="json"), "space": space}, "test")
    live, widths = studies(config), set[object]()
    while (assignment := live.next()) is not None:
        widths.add(assignment.values.get("neuron.width"))
        end(live, assignment.key, 0.5)
    assert len(widths) > 6


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


def test_a_stagnant_search_is_told_only_when_every_arm_is() -> None:
    live = studies(sweep(trials=9, stagnation=2))
    while (assignment := live.next()) is not None:
        still_rising = assignment.search.arm.name == "direct" and assignment.number < 3
        end(live, assignment.key, 0.1 * assignment.number if still_rising else 0.05)
        if live.stagnant():
            break
    assert live.counts["direct"].suggested == 5


def test_wilcoxon_stops_a_trial_whose_seeds_are_all_worse() -> None:
    live = studies(sweep(trials=2, scheduler="wilcoxon", epochs=1, seeds_per_trial=8, sampler="random"))
    best = live.next()
    assert best is not None
    for seed in range(1, 9):
        value = {"mean/val/accuracy": 0.8, "val/accuracy": 0.8 + seed / 1000}
        assert not live.report(best.key, seed, value)
    live.finish(best.key, "finished")
    others = [live.next() for _ in ARMS]
    worse = next(assignment for assignment in others if assignment and assignment.search is best.search)
    stops = [
        live.report(worse.key, seed, {"mean/val/accuracy": 0.5, "val/accuracy": 0.5 + seed / 1000})
        for seed in range(1, 9)
    ]
    assert any(stops[:-1])


def test_a_commit_to_the_studies_on_disk_does_not_wait_for_the_disk(tmp_path: Path) -> None:
    storage = open_storage(f"sqlite:///{tmp_path / 'optuna.db'}")
    assert isinstance(storage, optuna.storages.RDBStorage)
    with storage.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 1  # NORMAL


def test_of_many_trials_tpe_sees_the_best_and_the_latest() -> None:
    def trial(number: int, value: float, state: TrialState = TrialState.COMPLETE) -> FrozenTrial:
        values = {"values": [value]} if state == TrialState.COMPLETE else {"intermediate_values": {3: value}}
        space = {"x": optuna.distributions.FloatDistribution(0, 1)}
        return optuna.trial.create_trial(state=state, params={"x": number / 2000}, distributions=space, **values)  # type: ignore[arg-type]

    study = optuna.create_study(direction="maximize")
    few = [trial(number, 0.5, TrialState.PRUNED) for number in range(300)]
    study.add_trials(few)
    assert len(_Horizon(study)._get_trials(deepcopy=False)) == 300
    study.add_trials([trial(number, number / 2000) for number in range(1000, 300, -1)])
    seen = _Horizon(study)._get_trials(deepcopy=False)
    assert {t.number for t in seen[:100]} == set(range(300, 400))  # the best, which came first
    assert [t.number for t in seen[100:]] == list(range(600, 1000))
    proposed = TPE(seed=0, n_startup_trials=10, multivariate=True)
    asked = optuna.load_study(study_name=study.study_name, storage=study._storage, sampler=proposed).ask()
    assert asked.suggest_float("x", 0, 1) > 0.25


def test_a_death_between_the_decision_to_stop_and_its_record_with_two_objectives() -> None:
    config = sweep(trials=12, scheduler="asha", objectives=["accuracy", "synaptic_ops"], min_epochs=1, reduction=3)
    storage, live, stopped = optuna.storages.InMemoryStorage(), None, None
    live = studies(config, storage)
    while stopped is None:
        assignment = live.next()
        assert assignment is not None
        score = 0.9 - 0.01 * assignment.number
        metrics = {"val/accuracy": score, "ops/synaptic": 1000 + assignment.number, "spikes/rate": 0.1}
        if any(live.report(assignment.key, epoch, metrics) for epoch in range(1, 9)):
            stopped = assignment.key
        else:
            live.finish(assignment.key, "finished")
    arm, _, number = stopped.partition("/")
    for _ in range(2):
        again = studies(config, storage)
        assert again.counts[arm].stopped == 1
        assert again.counts[arm].failed == 0
        assert again.ended()[stopped].end == "stopped"
    rungs = optuna.load_study(study_name=f"tiny/{arm}:rungs", storage=storage)
    assert rungs.trials[int(number)].state == TrialState.PRUNED


def test_a_trial_at_its_last_epoch_is_not_stopped_any_more() -> None:
    """Else a driver's death before the record of its end would make a finished trial a stopped one."""
    live = studies(sweep(scheduler="asha", trials=4, min_epochs=1, reduction=3))
    for value in (0.9, 0.8, 0.7, 0.1):
        running = [live.next() for _ in range(3)]
        assert all(running)
        for assignment in running:
            if assignment is not None:
                assert not live.report(assignment.key, 9, {"val/accuracy": value})
                live.finish(assignment.key, "finished")
