"""The studies after a driver died: nothing is lost, run twice or decided anew."""

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from tests.support.studies import end, studies, sweep
from tune.search.studies import open_storage


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


def test_a_commit_to_the_studies_on_disk_does_not_wait_for_the_disk(tmp_path: Path) -> None:
    storage = open_storage(f"sqlite:///{tmp_path / 'optuna.db'}")
    assert isinstance(storage, optuna.storages.RDBStorage)
    with storage.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 1  # NORMAL


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
