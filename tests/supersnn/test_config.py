"""`TrainConfig`: consistency checks, older names of keys, and digests that keep stored files addressable."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from supersnn import teacher_cache, teachers
from supersnn.config import TrainConfig, load
from supersnn.config_model import parse, to_yaml, with_values
from supersnn.data import training_data
from supersnn.digests import digest
from supersnn.errors import UserError
from supersnn.nested import flatten, unflatten

PLAIN: dict[str, Any] = {"dataset": {"name": "digits"}, "student": {"architecture": "resnet8"}}


def test_load_reads_what_to_yaml_wrote(tmp_path: Path) -> None:
    config = parse(TrainConfig, PLAIN, "x")
    path = tmp_path / "config.yaml"
    path.write_text(to_yaml(config), encoding="utf-8")
    assert load(path) == config
    path.write_text(to_yaml(config).replace("resnet8", "[]"), encoding="utf-8")
    with pytest.raises(UserError, match=r"config\.yaml: student\.architecture: "):
        load(path)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"loss": {"logit": {"weight": 1}}}, r"loss\.logit\.weight is above zero, which requires teacher\.name"),
        (
            {"teacher": {"name": "vgg8"}},
            r"teacher\.name is 'vgg8', but .* is zero: set one of loss\.relation\.weight, ",
        ),
        ({"train": {"batch_size": 64, "shards": 3}}, r"train\.shards: expected a divisor of train\.batch_size 64"),
        ({"train": {"shards": 2}, "student": {"architecture": "torchvision:resnet18"}}, r"train\.shards: expected 1"),
        ({"dataset": {"name": "digits", "validation": 1.0}}, r"dataset\.validation: "),
    ],
)
def test_contradictions_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse(TrainConfig, {**PLAIN, **values}, "x")


@pytest.mark.parametrize(("text", "views"), [("off", "off"), ("4", 4)])
@pytest.mark.parametrize("section", ["teacher: {views: VALUE}", "dataset: {name: digits, augment: {views: VALUE}}"])
def test_views_under_both_names(tmp_path: Path, section: str, text: str, views: int | str) -> None:
    path = tmp_path / "config.yaml"
    dataset = "" if section.startswith("dataset") else "dataset: {name: digits}\n"
    path.write_text(f"{dataset}student: {{architecture: resnet8}}\n{section.replace('VALUE', text)}\n")
    config = load(path)
    assert config.dataset.augment.views == views
    assert [key for key in flatten(config) if key.endswith("views")] == ["dataset.augment.views"]
    path.write_text(to_yaml(config), encoding="utf-8")
    assert load(path) == config


def test_views_under_both_names_at_once() -> None:
    both = {**PLAIN, "dataset": {"name": "digits", "augment": {"views": 4}}, "teacher": {"views": 4}}
    assert parse(TrainConfig, both, "x").dataset.augment.views == 4
    message = r"^x: dataset\.augment\.views is 4 and its older name teacher\.views is 8: remove teacher\.views"
    with pytest.raises(UserError, match=message):
        parse(TrainConfig, {**both, "teacher": {"views": 8}}, "x")
    assert with_values(parse(TrainConfig, both, "x"), {"teacher.views": 8}).dataset.augment.views == 8


DIRECT = {
    "dataset.name": "digits",
    "dataset.augment.crop": 1,
    "student.architecture": "resnet8",
    "train.epochs": 3,
}
TAUGHT = {**DIRECT, "teacher.name": "vgg8", "loss.relation.weight": 2.0, "teacher.epochs": 5}


@pytest.mark.parametrize("views", ["dataset.augment.views", "teacher.views"])
@pytest.mark.parametrize(
    ("values", "views_value", "training", "addresses"),
    [
        (DIRECT, 16, "7e9e894d8fc47b98", None),
        (DIRECT, "off", "4af2e458dd66622e", None),
        (TAUGHT, 16, "ba655eeb5494c83d", ("e43330c67f9488c6", "eb1d59bbf0922ccf")),
        (TAUGHT, 4, "34742f03eff24574", ("67275776f4ee4052", "a8ff4c01574db135")),
    ],
)
def test_addresses_in_existing_stores(
    views: str, values: dict[str, Any], views_value: int | str, training: str, addresses: tuple[str, str] | None
) -> None:
    """The constants are those of the version in which the key was `teacher.views`."""
    config = parse(TrainConfig, unflatten({**values, views: views_value}), "x")
    data = training_data(config.dataset)
    assert data.fingerprint == "c7c7cc905f618ffd"
    assert digest(config, data.fingerprint) == training
    if addresses is not None:
        teacher: Any = SimpleNamespace(digest="d" * 16, weights_digest="w" * 16, precision="fp32")
        assert (teachers.address(config, data), teacher_cache.address(teacher, data, config)) == addresses


def test_terms_on_are_those_with_a_weight() -> None:
    loss = {"relation": {"weight": 1.0}, "feature": {"weight": 0.5}}
    config = parse(TrainConfig, {**PLAIN, "teacher": {"name": "vgg8"}, "loss": loss}, "x")
    assert config.loss.terms_on() == ("relation", "feature")
    assert parse(TrainConfig, PLAIN, "x").loss.terms_on() == ()
