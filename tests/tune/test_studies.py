"""Scheduling of trials: fair at any moment, the budget spent, early stopping within an arm."""

import optuna
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.trial import FrozenTrial, TrialState

from supersnn.config_model import parse
from tests.support.studies import ARMS, end, studies, sweep
from tune.description.sweep import SweepConfig
from tune.search.arm_study import Assignment
from tune.search.samplers import TPE, _Horizon

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


@pytest.mark.parametrize("died", [False, True])
def test_with_fair_compute_an_interrupted_trial_keeps_its_part_of_the_budget(died: bool) -> None:
    """One that was set back comes last: what it still needs begins no other trial."""
    config, storage = sweep(trials=2, fair="compute"), optuna.storages.InMemoryStorage()
    live = studies(config, storage)
    first = live.next()
    assert first is not None
    live.report(first.key, 2, {"val/accuracy": 0.3})
    live.requeue(first.key, set_back=True)
    if died:
        live = studies(config, storage)
    order = []
    while (assignment := live.next()) is not None:
        order.append(assignment.key)
        end(live, assignment.key, 0.5)
    assert len(order) == 2 * len(ARMS)
    assert order.index(first.key) == (0 if died else len(order) - 1)
    assert {counts.epochs for counts in live.counts.values()} == {2 * 9}


def test_an_interrupted_trial_of_several_seeds_spends_no_epoch_twice() -> None:
    """Its last epoch was between two steps of its pruner."""
    live = studies(sweep(trials=1, fair="compute", seeds_per_trial=2, epochs=4))
    first = live.next()
    assert first is not None
    for epoch in range(1, 7):
        live.report(first.key, epoch, {"val/accuracy": 0.3, "mean/val/accuracy": 0.3})
    live.requeue(first.key)
    again = live.next()
    assert again is not None
    assert (again.key, again.reported) == (first.key, 6)
    assert live.counts[first.key.partition("/")[0]].epochs == 6


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


def test_a_stagnant_search_is_told_only_when_every_arm_is() -> None:
    live = studies(sweep(trials=9, stagnation=2))
    while (assignment := live.next()) is not None:
        still_rising = assignment.search.arm.name == "direct" and assignment.number < 3
        assert not live.stagnant("direct") or live.counts["direct"].suggested == 5
        end(live, assignment.key, 0.1 * assignment.number if still_rising else 0.05)
    assert {counts.suggested for counts in live.counts.values()} == {5}
    assert live.full()
    assert live.stagnant("direct")
    assert live.room("direct") == 0


@pytest.mark.parametrize("fair", ["trials", "compute"])
def test_stagnation_leaves_no_search_a_trial_behind(fair: str) -> None:
    """Trials of one arm end early: with equal compute it goes on until no whole trial is missing."""
    live = studies(sweep(trials=30, stagnation=4, fair=fair))
    while (assignment := live.next()) is not None:
        early = assignment.search.name == "homogeneous"
        end(live, assignment.key, 0.5, "stopped" if early else "finished", epoch=2 if early else 9)
    assert live.full()
    assert min(counts.suggested for counts in live.counts.values()) == 5
    spent = [counts.suggested if fair == "trials" else counts.epochs for counts in live.counts.values()]
    assert max(spent) - min(spent) < (1 if fair == "trials" else 9)


@pytest.mark.parametrize("stagnation", [None, 3])
def test_with_equal_compute_an_arm_whose_trials_all_fail_at_once_ends(stagnation: int | None) -> None:
    storage = optuna.storages.InMemoryStorage()
    live, asked = studies(sweep(trials=4, fair="compute", stagnation=stagnation), storage), 0
    while (assignment := live.next()) is not None:
        asked += 1
        assert asked < 100
        if assignment.search.name == "direct":
            live.finish(assignment.key, "failed:nan")
        else:
            end(live, assignment.key, 0.5)
    assert live.full()
    assert studies(sweep(trials=4, fair="compute", stagnation=stagnation), storage).counts == live.counts


def test_the_searches_of_one_replicate_are_stagnant_by_themselves() -> None:
    several = sweep(trials=9, stagnation=2).model_copy(update={"replicates": 2})
    live = studies(several)
    while (assignment := live.next()) is not None:
        rising = 0.1 * assignment.number if assignment.search.cell[1] else 0.05
        end(live, assignment.key, rising)
    suggested = {name: counts.suggested for name, counts in live.counts.items()}
    assert {suggested[name] for name, search in live.searches.items() if search.cell[1] == 0} == {3}
    assert {suggested[name] for name, search in live.searches.items() if search.cell[1] == 1} == {9}


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
