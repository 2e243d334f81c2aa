"""A sweep, described: a training's keys, plus the arms, their space, the budget and the resources."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import ByteSize, Field, field_validator, model_validator

from supersnn.config import TrainConfig
from supersnn.config_model import ConfigModel, Count, Positive, Scalar, merge, parse, read_yaml, unflatten, with_values
from supersnn.errors import UserError, nearest
from tune.description.space import DEFAULTS, SearchParameter

TERMS = ("relation", "logit", "feature")
CONSTRAINED = ("spikes/rate", "ops/synaptic", "ops/mac", "energy/nj", "val/loss")
"""The metrics of an epoch that a search may be constrained by."""
NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"


class ArmConfig(ConfigModel):
    """One arm: the teachers and students it may pair, the terms that are on, its own space and fixed values.

    `losses` is left out for the usual ones: none without teachers, else those that the arm's name says
    (`tune.description.arms`). `space` adds to the sweep's or overrides it; `set` fixes dotted keys.
    """

    teachers: tuple[str, ...] = ()
    students: tuple[str, ...] = ()
    losses: tuple[Literal["relation", "logit", "feature"], ...] | None = None
    space: dict[str, SearchParameter] = {}
    set: dict[str, Scalar] = {}

    @field_validator("space", mode="before")
    @classmethod
    def _defaults(cls, value: object) -> object:
        return with_defaults(value)


class SearchConfig(ConfigModel):
    """The budget and the way it is spent. `trials` counts for each arm, the failed ones among them.

    With `fair: compute` the arms are kept equal in epochs instead: each may spend `trials` times all epochs, and what
    early stopping saves is spent on further trials. `hours` (of running, downtime left out) and `gpu_hours` end a
    search for all arms at once, as does `stagnation`: in every arm, that many trials in a row brought nothing better.

    `objectives` are what a trial is judged by, `constraints` upper bounds on final metrics, `seeds_per_trial` how many
    seeds a trial is trained with, one after another, to judge it by their mean. `enqueue` lists values to be tried
    first; `warm_start` names sweeps of the same store whose ended trials the samplers are to know.
    """

    trials: Count = 16
    sampler: Literal["tpe", "random", "qmc", "gp", "cmaes", "nsga2", "nsga3", "grid"] = "tpe"
    scheduler: Literal["asha", "hyperband", "median", "wilcoxon", "none"] = "asha"
    fair: Literal["trials", "compute"] = "trials"
    objectives: tuple[Literal["accuracy", "synaptic_ops"], ...] = ("accuracy",)
    constraints: dict[str, float] = {}
    seeds_per_trial: Count = 1
    startup: Count | None = None
    min_epochs: Count | None = None
    reduction: int = Field(2, ge=2)
    max_failures: int = Field(2, ge=0)
    enqueue: tuple[dict[str, Scalar], ...] = ()
    warm_start: tuple[str, ...] = ()
    hours: Positive | None = None
    gpu_hours: Positive | None = None
    stagnation: Count | None = None

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.objectives[:1] != ("accuracy",) or len(set(self.objectives)) < len(self.objectives):
            raise ValueError(f"objectives: accuracy comes first, each once; found {list(self.objectives)}")
        if len(self.objectives) > 1 and self.sampler == "cmaes":
            raise ValueError("sampler: cmaes knows one objective only")
        if self.scheduler == "wilcoxon" and self.seeds_per_trial < 2:
            raise ValueError("scheduler: wilcoxon compares seeds; seeds_per_trial must be 2 or more")
        unknown = [metric for metric in self.constraints if metric not in CONSTRAINED]
        if unknown:
            raise ValueError(f"constraints: no metric {unknown[0]!r}{nearest(unknown[0], CONSTRAINED)}")
        return self

    def startup_trials(self) -> int:
        """Return how many trials of each arm are start-up designs, shared by the arms."""
        return min(self.startup or min(10, max(4, self.trials // 4)), self.trials)


class VerifyConfig(ConfigModel):
    """How a winner is believed: trained again with `seeds` fresh seeds, the first being `first_seed`.

    The winner is the best of an arm's `top` trials; several are first trained with `rank_seeds` other seeds each, and
    ranked by their mean validation accuracy. With `train_on: train+validation` the final trainings see the validation
    images too, as do their teachers, which are fitted anew.
    """

    seeds: Count = 10
    first_seed: int = Field(1000, ge=0)
    top: Count = 1
    rank_seeds: Count = 3
    train_on: Literal["train", "train+validation"] = "train"


class ResourcesConfig(ConfigModel):
    """What one trial takes of a node; teachers and verifications take the same.

    `gpus` may be a fraction: trials then share a GPU. With a whole number above 1 each batch is cut into that many
    shards, `train.shards`, each on a GPU of its own, all of one node; that is written, but was not measured. `cpus`,
    left out, are one for each shard. `memory` is in bytes, or a text such as "2GB"; nodes are chosen by it, nothing is
    cut off. `accelerator` is one of Ray's accelerator types ("A100"), `labels` are labels that a node must have.

    As many trials run at once as the nodes hold at the time. `trials_at_once` sets another number: those for which
    there is no room wait, which tells a cluster that scales by itself what to grow to.
    """

    cpus: Positive = 1.0
    gpus: float = Field(0.0, ge=0)
    memory: Annotated[ByteSize, Field(gt=0)] | None = None
    accelerator: str | None = Field(None, pattern=r"^[A-Za-z0-9_.-]+$")
    labels: dict[str, Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")]] = {}
    trials_at_once: Count | None = None

    @field_validator("gpus")
    @classmethod
    def _whole_above_one(cls, gpus: float) -> float:
        if gpus > 1 and gpus != int(gpus):
            raise ValueError(f"expected a fraction of one GPU or a whole number of them, found {gpus:g}")
        return gpus


class SweepConfig(TrainConfig):
    """A whole sweep. The keys of a training hold for every arm unless the arm or the space says otherwise."""

    name: str = Field(pattern=NAME)
    arms: dict[str, ArmConfig] = Field(min_length=1)
    space: dict[str, SearchParameter] = {}
    search: SearchConfig = SearchConfig()
    verify: VerifyConfig = VerifyConfig()
    resources: ResourcesConfig = ResourcesConfig()

    @field_validator("space", mode="before")
    @classmethod
    def _defaults(cls, value: object) -> object:
        return with_defaults(value)

    @model_validator(mode="before")
    @classmethod
    def _shards_and_resources(cls, data: Any) -> Any:
        """Fill in `train.shards` from `resources.gpus`, then `resources.cpus` from `train.shards`."""
        gpus = _at(data, "resources", "gpus", 0)
        shards = _at(data, "train", "shards", int(gpus) if gpus in range(2, 1000) else 1)
        if not isinstance(shards, int) or shards <= 1:
            return data
        return merge({"train": {"shards": shards}, "resources": {"cpus": shards}}, data)

    @model_validator(mode="after")
    def _one_gpu_a_shard(self) -> Self:
        gpus, shards = self.resources.gpus, self.train.shards
        if gpus and max(gpus, 1) != shards:
            raise ValueError(f"resources.gpus: {gpus:g} and train.shards: {shards}; expected a GPU for each shard")
        for name, arm in self.arms.items():
            if "train.shards" in {*self.space, *arm.space, *arm.set}:
                raise ValueError(f"arms.{name}: train.shards is the same in all trials; expected it under train")
            batches = {**self.space, **arm.space}.get("train.batch_size")
            if shards > 1 and batches and any(int(str(b)) % shards for b in batches.categorical or (1,)):
                raise ValueError(f"train.batch_size: searched with {shards} shards; expected choices that they divide")
        return self

    @model_validator(mode="after")
    def _judged_on_unseen_images(self) -> Self:
        if self.dataset.train_on != "train":
            raise ValueError(
                "dataset.train_on: a search needs validation images that it is not trained on; see verify.train_on"
            )
        return self

    @model_validator(mode="after")
    def _names(self) -> Self:
        for arm in self.arms:
            if not re.match(NAME, arm):
                raise ValueError(f"arms: {arm!r} is no name (letters, digits, '_', '.', '-')")
        return self

    def trial_epochs(self) -> int:
        """Return the epochs of a trial that runs to its end, over all of its seeds."""
        return self.train.epochs * self.search.seeds_per_trial

    def base(self) -> dict[str, Any]:
        """Return the part that is a training's, as plain nested values."""
        return {key: value for key, value in self.model_dump(mode="json").items() if key in TrainConfig.model_fields}


def _at(data: Any, section: str, key: str, default: Any) -> Any:
    """A value of a file that is not checked yet."""
    here = data.get(section) if isinstance(data, Mapping) else None
    return here.get(key, default) if isinstance(here, Mapping) else default


def with_defaults(space: object) -> object:
    """Return the space with each `default` replaced by the usual range of that key."""
    if not isinstance(space, Mapping):
        return space
    for key, parameter in space.items():
        if parameter == "default" and key not in DEFAULTS:
            raise ValueError(f"{key} has no default range{nearest(key, DEFAULTS)}")
    return {key: DEFAULTS[key] if parameter == "default" else parameter for key, parameter in space.items()}


def load(path: Path, overrides: tuple[str, ...] = ()) -> SweepConfig:
    """Return the sweep of a YAML file, with `key=value` overrides (values are YAML) laid upon it.

    Raises:
        UserError: the file or an override is wrong; one line says where and how.
    """
    data = merge(read_yaml(path), unflatten(dict(parse_override(text) for text in overrides)))
    sweep = parse(SweepConfig, data, str(path))
    kind, _, folder = sweep.dataset.name.partition("folder:")
    if folder and not kind:  # workers have another working folder
        return with_values(sweep, {"dataset.name": f"folder:{Path(folder).expanduser().resolve()}"}, str(path))
    return sweep


def parse_override(text: str) -> tuple[str, Any]:
    """Return the dotted key and the YAML value of `key=value`."""
    import yaml

    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UserError(f"--set {text}: expected key=value")
    try:
        return key, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise UserError(f"--set {text}: the value is not YAML: {' '.join(str(error).split())}") from error
