"""Search parameters: sampled values, refused definitions, and the start-up designs that arms share."""

import optuna
import pytest
from pydantic import ValidationError

from tune.description.space import DEFAULTS, SearchParameter, startup_design, suggest


def study() -> optuna.Study:
    return optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))


def test_parameter_needs_exactly_one_kind() -> None:
    for wrong in ({}, {"uniform": [0, 1], "log": [1, 2]}):
        with pytest.raises(ValidationError, match="exactly one"):
            SearchParameter.model_validate(wrong)


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"uniform": [1, 1]}, "lower bound must be below upper bound"),
        ({"log": [0, 1]}, "log range requires a positive lower bound"),
        ({"categorical": ["a", "a"]}, "distinct"),
        ({"log": [1, 2], "step": 1}, "step"),
        ({"int": [1.5, 2]}, "int"),
        ({"int": [1, 9], "step": 0.5}, "step: expected an integer with int, found 0.5"),
        ({"int": [1, 9], "step": 9}, "step: 9 leaves one value of"),
        ({"uniform": [0, 1], "step": 1e-12}, "leaves too many values"),
        ({"uniform": [-1e308, 1e308]}, "within"),
        ({"uniform": [False, True]}, "expected a number"),
        ({"categorical": list(range(1001))}, "at most 1000 values"),
    ],
)
def test_parameter_refused(wrong: dict[str, object], word: str) -> None:
    with pytest.raises(ValidationError, match=word):
        SearchParameter.model_validate(wrong)


def test_values_are_in_range() -> None:
    parameters = {
        "u": SearchParameter(uniform=(0.5, 1.0), step=0.25),
        "l": SearchParameter(log=(1e-3, 1e-1)),
        "i": SearchParameter(integer=(2, 8), step=3),
        "c": SearchParameter(categorical=("hard", "soft")),
    }
    drawn = [suggest(study().ask(), parameters, {}) for _ in range(3)]
    drawn += [startup_design(parameters, number, 7, seed=1) for number in range(7)]
    for values in drawn:
        assert values["u"] in (0.5, 0.75, 1.0)
        assert 1e-3 <= float(str(values["l"])) <= 1e-1
        assert values["i"] in (2, 5, 8)
        assert values["c"] in ("hard", "soft")


def test_conditional_parameter() -> None:
    parameters = {
        "teacher.name": SearchParameter(categorical=("vgg8", "resnet8")),
        "loss.relation.pool": SearchParameter(categorical=(1, 2), when={"teacher.name": "vgg8"}),
        "neuron.width": SearchParameter(log=(0.5, 2), when={"neuron.surrogate": ("atan", "sigmoid")}),
    }
    random_study = study()
    teachers = set()
    for _ in range(20):
        values = suggest(random_study.ask(), parameters, {"neuron.surrogate": "triangle"})
        assert ("loss.relation.pool" in values) == (values["teacher.name"] == "vgg8")
        assert "neuron.width" not in values
        teachers.add(values["teacher.name"])
    assert teachers == {"vgg8", "resnet8"}
    assert "neuron.width" in suggest(random_study.ask(), parameters, {"neuron.surrogate": "atan"})


def test_a_condition_on_a_multiple_of_a_step_holds_whatever_its_last_digits_are() -> None:
    parameters = {
        "optimizer.momentum": SearchParameter(uniform=(0.0, 0.9), step=0.1),
        "neuron.width": SearchParameter(log=(0.5, 2), when={"optimizer.momentum": 0.6}),
    }
    fixed = study()
    fixed.enqueue_trial({"optimizer.momentum": 6 * 0.1})
    assert 6 * 0.1 != 0.6
    assert "neuron.width" in suggest(fixed.ask(), parameters, {})


@pytest.mark.parametrize(
    ("parameter", "known", "other"),
    [
        (SearchParameter(categorical=("a", "b")), ["a"], "b"),
        (SearchParameter(categorical=("a", "b")), ["a", "b"], None),
        (SearchParameter(integer=(1, 9), step=4), [1, 9, 5], None),
        (SearchParameter(integer=(1, 1000)), [1, 500, 501, 1000], 2),
        (SearchParameter(uniform=(0.0, 0.9), step=0.1), [0.9, 0.0, 0.5, 0.1], 0.2),
        (SearchParameter(uniform=(0.0, 0.2), step=0.1), [0.0, 0.1, 0.2], None),
        (SearchParameter(uniform=(0.0, 1.0)), [0.0], 0.5),
    ],
)
def test_another_value_than_the_known_ones(parameter: SearchParameter, known: list[object], other: object) -> None:
    assert parameter.another(known) == other  # type: ignore[arg-type]


def test_arms_share_start_up_values_of_shared_parameters() -> None:
    lr, threshold, weight = DEFAULTS["optimizer.lr"], DEFAULTS["neuron.threshold"], DEFAULTS["loss.relation.weight"]
    direct = {"optimizer.lr": lr, "neuron.threshold": threshold}
    distilled = {"loss.relation.weight": weight, "neuron.threshold": threshold, "optimizer.lr": lr}
    for number in range(6):
        a, b = (startup_design(parameters, number, 6, seed=3) for parameters in (direct, distilled))
        assert a == {key: b[key] for key in a}


def test_the_start_up_design_visits_every_stratum_once() -> None:
    parameters = {"x": SearchParameter(uniform=(0, 10)), "y": SearchParameter(uniform=(0, 10))}
    designs = [startup_design(parameters, number, 10, seed=0) for number in range(10)]
    for key in parameters:
        assert sorted(int(float(str(design[key]))) for design in designs) == list(range(10))
    assert [d["x"] for d in designs] != [d["y"] for d in designs]
    assert designs != [startup_design(parameters, number, 10, seed=1) for number in range(10)]


@pytest.mark.parametrize(
    "parameter",
    [
        SearchParameter(uniform=(0.1, 0.3), step=0.1),
        SearchParameter(uniform=(0.3, 2.0), step=0.3),
        SearchParameter(uniform=(0.1, 0.95)),
        SearchParameter(integer=(1, 10), step=4),
        SearchParameter(log=(0.01, 0.3)),
        SearchParameter(categorical=("a", None, 1.5)),
    ],
)
def test_a_parameter_accepts_all_that_it_proposes(parameter: SearchParameter) -> None:
    """Optuna warns where a range is no multiple of its step, or a value is outside: warnings are errors here."""
    shares = [share / 50 for share in range(50)] + [1 - 1e-12]
    proposed = [*map(parameter.at, shares), *parameter.samples(), *parameter.grid()]
    assert all(map(parameter.accepts, proposed))
    fixed = study()
    for value in proposed:
        fixed.enqueue_trial({"x": value})
        assert parameter.suggest(fixed.ask(), "x") == value


def test_what_a_parameter_accepts_has_its_type() -> None:
    assert SearchParameter(uniform=(0, 2)).accepts(1)
    assert not SearchParameter(uniform=(0, 2)).accepts(True)
    assert not SearchParameter(uniform=(0, 2)).accepts("1")
    assert not SearchParameter(integer=(0, 2)).accepts(1.0)
    assert not SearchParameter(categorical=(1, 2)).accepts(True)
    assert not SearchParameter(uniform=(0, 1), step=0.5).accepts(0.25)
