"""Arms and values that are added to a running search."""

from pathlib import Path
from unittest.mock import patch

import optuna
import pytest

from supersnn.config_model import with_values
from supersnn.errors import UserError
from supersnn.records.searches import split_key
from tests.support.steering import SWEEP, Killed, driving
from tune.requests import Request, submit
from tune.store import Store
from tune.sweep_driver import SweepDriver


def test_a_new_arm_catches_up_before_the_others_go_on(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with driving(SWEEP, store) as running:
        running.trials(5)
        under_way = running.search.next_job()
        assert under_way is not None
        submit(store.sweep("one"), Request("change", values={"arms.hard": {"set": {"neuron.reset": "hard"}}}))
        running.take_up()
        order = running.trials()
        assert order[0] == under_way.key  # it was requeued
        assert [key.split("/")[0] for key in order[1:4]] == ["hard"] * 3
        assert running.counts() == {"direct": 4, "soft": 4, "hard": 4}
    with driving(SWEEP, store) as running:  # the file does not have the arm; the sweep does
        assert running.counts()["hard"] == 4
        assert not running.driver.search_left()
    other = with_values(SWEEP, {"arms.else": {}})
    with pytest.raises(UserError, match="different configuration"), driving(other, store):
        pass


@pytest.mark.parametrize("fair", ["trials", "compute"])
def test_a_new_arm_catches_up_in_a_search_that_stagnates(fair: str, tmp_path: Path) -> None:
    settings = {"search.trials": 20, "search.stagnation": 5, "search.fair": fair}
    with driving(with_values(SWEEP, settings), Store(tmp_path)) as running:
        running.trials(best=6)
        assert running.counts() == {"direct": 12, "soft": 12}
        assert running.ask(Request("change", values={"arms.hard": {"set": {"neuron.reset": "hard"}}})) == [None]
        assert {split_key(key)[0] for key in running.trials(best=0)} == {"hard"}
        assert running.counts() == {"direct": 12, "soft": 12, "hard": 12}


@pytest.mark.parametrize("sampler", ["tpe", "random", pytest.param("gp", marks=pytest.mark.slow)])
def test_a_wider_space_is_searched_with_what_is_known(sampler: str, tmp_path: Path) -> None:
    store = Store(tmp_path)
    sweep = with_values(SWEEP, {"search.sampler": sampler, "search.trials": 4})
    wider = {"space.optimizer.lr": {"log": [0.01, 10.0]}, "space.neuron.reset": {"categorical": ["hard", "soft"]}}
    with driving(sweep, store) as running:
        running.trials(5)
        under_way = running.search.next_job()
        assert under_way is not None
        submit(store.sweep("one"), Request("change", values={"search.trials": 10, **wider}))
        running.take_up()
        assert running.trials(1) == [under_way.key]
        running.trials()
        assert running.counts() == {"direct": 10, "soft": 10}
        later = [running.params(arm, n)["optimizer.lr"] for arm in ("direct", "soft") for n in range(4, 10)]
        assert max(later) > 0.1
    study = optuna.load_study(study_name="one/direct", storage=store.optuna_url)
    assert {trial.distributions["optimizer.lr"].high for trial in study.trials} == {10.0}  # type: ignore[attr-defined]
    with driving(sweep, store) as running:
        assert not running.driver.search_left()


def test_a_further_choice_where_a_driver_died_before_its_studies_were_rebuilt(tmp_path: Path) -> None:
    store = Store(tmp_path)
    surrogate = {"neuron.surrogate": {"categorical": ["triangle", "atan"]}}
    sweep = with_values(SWEEP, {"space": surrogate, "search.trials": 10})
    choices = {"space.neuron.surrogate": {"categorical": ["triangle", "atan", "sigmoid"]}}
    with driving(sweep, store) as running:
        running.trials(5)
        submit(store.sweep("one"), Request("change", values=choices))
        with patch.object(SweepDriver, "reopen", side_effect=Killed), pytest.raises(Killed):
            running.take_up()
    with driving(sweep, store) as running:
        running.trials()
        assert running.counts() == {"direct": 10, "soft": 10}
        found = {running.params(arm, n)["neuron.surrogate"] for arm in ("direct", "soft") for n in range(10)}
        assert "sigmoid" in found
