"""The recipes in `configs/recipes`: what each says, and that a dry run accepts it."""

from pathlib import Path

import pytest

from tune.description.arms import resolve
from tune.description.inspection import inspect_sweep
from tune.description.sweep import load
from tune.store import Store

RECIPES = sorted((Path(__file__).parents[2] / "configs" / "recipes").glob("*.yaml"))


def test_there_is_a_recipe_for_each_data_set_of_the_field() -> None:
    assert [load(path).dataset.name for path in RECIPES] == ["cifar10", "cifar100", "tiny-imagenet"]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_the_fields_and_a_dry_run_accepts_it(path: Path, tmp_path: Path) -> None:
    sweep = load(path)
    arms = resolve(sweep, str(path))
    inspect_sweep(sweep, arms, Store(tmp_path), str(path))
    assert list(arms) == ["direct", "relation", "logit", "relation-and-logit"]
    for arm in arms.values():
        assert not arm.parameters
        config = arm.config({})
        assert (config.student.architecture, config.student.time_steps) == ("resnet19_tet", 2)
        assert (config.train.epochs, config.train.batch_size, config.train.precision) == (300, 128, "bf16")
        optimizer = config.optimizer
        assert (optimizer.name, optimizer.lr, optimizer.weight_decay) == ("sgd", 0.1, 5e-4)
        assert (optimizer.schedule, optimizer.warmup) == ("cosine", 0)
        assert not config.neuron.detach_reset
        assert config.dataset.augment.policy == "auto"
        assert config.loss.logit.weight == (0.2 if "logit" in arm.terms else 0)
        assert config.loss.relation.weight == (0.3 if "relation" in arm.terms else 0)
