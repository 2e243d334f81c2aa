"""The description of a training: what fits together and what does not."""

from pathlib import Path
from typing import Any

import pytest

from supersnn.config import TrainConfig, load
from supersnn.config_model import parse, to_yaml
from supersnn.errors import UserError

PLAIN: dict[str, Any] = {"dataset": {"name": "digits"}, "student": {"architecture": "resnet8"}}


def test_a_training_is_loaded_from_its_file(tmp_path: Path) -> None:
    config = parse(TrainConfig, PLAIN, "x")
    path = tmp_path / "config.yaml"
    path.write_text(to_yaml(config), encoding="utf-8")
    assert load(path) == config
    path.write_text(to_yaml(config).replace("resnet8", "[]"), encoding="utf-8")
    with pytest.raises(UserError, match=r"config\.yaml: student\.architecture: "):
        load(path)


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"loss": {"logit": {"weight": 1}}}, r"loss\.logit\.weight is above zero, so teacher\.name must be given"),
        ({"teacher": {"name": "vgg8"}}, r"teacher\.name is 'vgg8', but no loss term with it has a weight"),
        ({"train": {"batch_size": 64, "shards": 3}}, r"train\.shards: expected a divisor of train\.batch_size 64"),
        ({"train": {"shards": 2}, "student": {"architecture": "torchvision:resnet18"}}, r"train\.shards: expected 1"),
        ({"dataset": {"name": "digits", "validation": 1.0}}, r"dataset\.validation: "),
    ],
)
def test_what_does_not_fit_together_is_refused(values: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        parse(TrainConfig, {**PLAIN, **values}, "x")


def test_a_bare_off_means_views_drawn_anew(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("dataset: {name: digits}\nstudent: {architecture: resnet8}\nteacher: {views: off}\n")
    assert load(path).teacher.views == "off"


def test_the_terms_that_are_on_are_those_with_a_weight() -> None:
    loss = {"relation": {"weight": 1.0}, "feature": {"weight": 0.5}}
    config = parse(TrainConfig, {**PLAIN, "teacher": {"name": "vgg8"}, "loss": loss}, "x")
    assert config.loss.terms_on() == ("relation", "feature")
    assert parse(TrainConfig, PLAIN, "x").loss.terms_on() == ()
