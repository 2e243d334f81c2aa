"""A sweep's target: what its students exceed of a chip's limits, said before anything is trained, or refused."""

import io
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from supersnn.config_model import with_values
from supersnn.errors import UserError
from tests.support.cli import run_json
from tune.description.arms import resolve
from tune.description.fixed import fixed_digest
from tune.description.inspection import inspect_sweep
from tune.description.plan import plan, plan_table
from tune.description.sweep import SweepConfig, load
from tune.description.target import target_lines, target_plan
from tune.store import Store

SWEEP: dict[str, Any] = {
    "name": "chips",
    "dataset": {"name": "digits"},
    "student": {"architecture": "resnet8", "stem_stride": 1},
    "target": "loihi2",
    "arms": {"direct": {}, "homogeneous": {"teachers": ["resnet8"]}},
}


def sweep(**changes: Any) -> SweepConfig:
    return SweepConfig.model_validate({**SWEEP, **changes})


def test_students_are_compared_once_for_all_arms_that_have_them() -> None:
    described = sweep()
    found = target_plan(described, resolve(described))
    assert found is not None
    assert [(row["student"], row["arms"], row["limit"]) for row in found["students"]] == [
        ("resnet8", ["direct", "homogeneous"], "weights")
    ]
    assert target_lines(found)[0] == "target Intel Loihi 2; its published limits that are exceeded:"
    assert "export.int8" in target_lines(found)[1]
    with_integers = sweep(export={"int8": True})
    fitting = target_plan(with_integers, resolve(with_integers))
    assert fitting is not None
    assert target_lines(fitting)[1] == "  none"
    assert "target" not in plan(sweep(target=None), resolve(sweep(target=None)))


def test_what_is_searched_is_compared_in_each_choice() -> None:
    described = sweep(export={"int8": True}, space={"neuron.reset": {"categorical": ["hard", "soft"]}})
    found = target_plan(described, resolve(described))
    assert found is not None
    assert [row["limit"] for row in found["students"]] == ["reset"]


def test_several_data_sets_have_rows_of_their_own() -> None:
    described = sweep(datasets={"small": {"name": "digits"}, "cifar10": {"name": "cifar10"}})
    found = target_plan(described, resolve(described))
    assert found is not None
    assert {row["dataset"] for row in found["students"]} | set(found["unknown"]) == {"small", "cifar10"}


def test_a_required_target_refuses_a_student(tmp_path: Path) -> None:
    described = sweep(target={"chip": "speck", "require": True})
    with pytest.raises(UserError, match=r"arms\.direct: target\.require: resnet8 exceeds limits of SynSense Speck 2: "):
        inspect_sweep(described, resolve(described), Store(tmp_path), "file")
    loihi = sweep(target={"chip": "loihi2", "require": True}, export={"int8": True})
    assert inspect_sweep(loihi, resolve(loihi), Store(tmp_path), "file")[""].shape is not None


def test_no_training_depends_on_target_and_export() -> None:
    plain = sweep(target=None)
    for changes in ({"target": "speck"}, {"export": {"int8": True}}):
        assert fixed_digest(sweep(**{"target": None, **changes})) == fixed_digest(plain)
    for key in ("target", "export.int8"):
        with pytest.raises(UserError, match="no training depends on it"):
            resolve(sweep(space={key: {"categorical": ["speck", "loihi2"]}}))
        with pytest.raises(UserError, match="it is the same for all arms"):
            resolve(sweep(arms={"direct": {"set": {key: "speck"}}}))
    assert with_values(plain, {"target": "speck"}).target == sweep(target="speck").target


def test_the_commands_say_it(tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(yaml.safe_dump(SWEEP))
    assert run_json("plan", file, "--store", tmp_path / "store")["target"]["chip"] == "loihi2"
    described = load(file)
    output = io.StringIO()
    Console(file=output, width=200).print(plan_table(plan(described, resolve(described))))
    assert "  resnet8: weights: they are floats" in output.getvalue()
    with pytest.raises(UserError, match="target: input should be 'speck', 'loihi2' or 'spinnaker2', found 'akida'"):
        load(file, ("target=akida",))
