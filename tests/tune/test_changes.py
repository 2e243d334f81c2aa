"""Which changes of a sweep that has begun are allowed, and the sweep as it was changed."""

from typing import Any

import pytest

from supersnn.config_model import parse, with_values
from supersnn.errors import UserError
from supersnn.records.steering import Override
from tune.description.changes import (
    as_changed,
    before_change,
    changed,
    includes,
    is_outdated,
    needs_pause,
    require_allowed,
    value_at,
)
from tune.description.space import SearchParameter
from tune.description.sweep import SweepConfig

PLAIN: dict[str, Any] = {
    "name": "one",
    "dataset": {"name": "digits"},
    "student": {"architecture": "resnet8"},
    "arms": {"direct": {}, "mine": {"space": {"neuron.decay": {"uniform": [0.2, 0.8]}}}},
    "space": {"optimizer.lr": {"log": [0.01, 0.1]}, "neuron.reset": {"categorical": ["hard", "soft"]}},
    "search": {"trials": 4},
}


@pytest.fixture
def sweep() -> SweepConfig:
    return parse(SweepConfig, PLAIN, "test")


ALLOWED: dict[str, Any] = {
    "search.trials": 9,
    "search.hours": 2.5,
    "search.gpu_hours": 3,
    "search.stagnation": 5,
    "search.max_failures": 7,
    "verify.seeds": 3,
    "verify.top": 2,
    "resources.trials_at_once": 4,
    "resources.stall": "20 min",
    "arms.logit": {"teachers": ["vgg8"]},
    "space.optimizer.lr": {"log": [0.001, 0.2]},
    "space.optimizer.lr.log": [0.01, 0.3],
    "arms.mine.space.neuron.decay": {"uniform": [0.1, 0.9]},
}
LIVE = {key for key in ALLOWED if key.startswith(("search.", "verify."))} | {"resources.stall"}


@pytest.mark.parametrize("key", ALLOWED)
def test_changes_that_keep_trials_comparable(sweep: SweepConfig, key: str) -> None:
    after = changed(sweep, {key: ALLOWED[key]})
    assert after != sweep
    require_allowed(sweep, after, sweep.arms)
    assert needs_pause(sweep, after) == (key not in LIVE)


@pytest.mark.parametrize(
    ("key", "value", "fault"),
    [
        ("train.epochs", 3, r"train\.epochs: cannot be changed .*\(12 before, 3 now\)"),
        ("search.sampler", "random", r"search\.sampler: cannot be changed"),
        ("search.constraints", {"spikes/rate": 0.2}, r"search\.constraints"),
        ("dataset.images", 300, r"dataset\.images: cannot be changed"),
        ("arms.direct.set", {"optimizer.momentum": 0.8}, r"arms\.direct\.set"),
        ("arms", {"direct": {}}, r"arms\.mine: an arm that has begun cannot be removed; pause it"),
        (
            "space.optimizer.lr",
            {"log": [0.02, 0.1]},
            r"space\.optimizer\.lr: expected all values of log: \[0\.01, 0\.1\]",
        ),
        ("space.optimizer.lr", {"uniform": [0.01, 0.1]}, r"space\.optimizer\.lr: expected all values"),
        ("space.neuron.reset", {"categorical": ["hard"]}, r"space\.neuron\.reset: expected all values"),
        ("space.neuron.threshold", "default", r"space\.neuron\.threshold: cannot be added to the space"),
        ("space", {"optimizer.lr": {"log": [0.01, 0.1]}}, r"space\.neuron\.reset: cannot be taken from the space"),
        ("search.trails", 3, r"search\.trails: unknown key"),
        ("search.trials", 0, r"search\.trials: "),
        ("arms.homogeneous", {"teachers": ["vgg8"]}, r"arms\.homogeneous\.teachers: vgg8 is of family"),
    ],
)
def test_other_changes_are_refused(sweep: SweepConfig, key: str, value: Any, fault: str) -> None:
    with pytest.raises(UserError, match=fault):
        require_allowed(sweep, changed(sweep, {key: value}), sweep.arms)


def test_samplers_with_designs_keep_their_space() -> None:
    sweep = parse(SweepConfig, {**PLAIN, "search": {"sampler": "qmc"}}, "test")
    with pytest.raises(UserError, match="sampler qmc cannot change its space"):
        require_allowed(sweep, changed(sweep, {"space.optimizer.lr": {"log": [0.001, 0.1]}}), sweep.arms)


def test_an_arm_without_trials_may_go_or_become_another(sweep: SweepConfig) -> None:
    with_another = changed(sweep, {"arms.logit": {"teachers": ["vgg8"]}})
    require_allowed(with_another, sweep, sweep.arms)
    require_allowed(with_another, changed(sweep, {"arms.logit": {"teachers": ["resnet8"]}}), sweep.arms)
    with pytest.raises(UserError, match=r"arms\.logit: an arm that has begun"):
        require_allowed(with_another, sweep, with_another.arms)


def test_a_parameter_includes_another() -> None:
    choices = SearchParameter(categorical=("a", "b"))
    assert includes(SearchParameter(categorical=("b", "c", "a")), choices)
    assert not includes(choices, SearchParameter(categorical=("b", "c", "a")))
    steps = SearchParameter(integer=(2, 8), step=2)
    assert includes(SearchParameter(integer=(0, 10), step=2), steps)
    assert not includes(SearchParameter(integer=(1, 9), step=2), steps)
    assert not includes(SearchParameter(integer=(0, 10)), steps)
    when = {"neuron.kind": "lif"}
    assert not includes(SearchParameter(uniform=(0, 2), when=when), SearchParameter(uniform=(0, 1)))


def test_a_change_holds_until_the_file_says_something_else(sweep: SweepConfig) -> None:
    changes = [Override("search.trials", 4, 9), Override("arms.logit", None, {"teachers": ["vgg8"]})]
    after = as_changed(sweep, changes)
    assert (after.search.trials, list(after.arms)) == (9, ["direct", "mine", "logit"])
    newer = with_values(sweep, {"search.trials": 6})
    assert as_changed(newer, changes).search.trials == 6
    assert as_changed(after, changes) == after
    assert as_changed(sweep, []) is sweep
    assert value_at(sweep, "arms.mine.space.neuron.decay.uniform") == [0.2, 0.8]
    assert value_at(sweep, "arms.logit") is None


@pytest.mark.parametrize("key", ALLOWED)
def test_a_change_is_outdated_only_where_the_file_has_a_third_value(sweep: SweepConfig, key: str) -> None:
    change = Override(key, value_at(sweep, key), ALLOWED[key])
    for given in (sweep, changed(sweep, {key: ALLOWED[key]})):  # by its file, and as it was changed
        assert not is_outdated(given, change)
        assert before_change(given, key, change) == change.before
    third = Override(key, "another", ALLOWED[key])
    assert is_outdated(sweep, third)
    assert before_change(sweep, key, third) == value_at(sweep, key)
