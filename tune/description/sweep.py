"""The configuration of a sweep: a training's keys, plus arms, search space, budget and resources."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, ByteSize, Field, field_validator, model_validator

from supersnn import plugins
from supersnn.config import DEFAULT_WEIGHTS, DatasetConfig, PartArguments, TrainConfig, with_expanded_paths
from supersnn.config_model import NO_ARGUMENTS, ConfigModel, Count, Integer, Name, Number, Positive, current_key, parse
from supersnn.digests import EXCLUDE_DEFAULT_FROM_DIGEST, EXCLUDE_FROM_DIGEST
from supersnn.environment import with_expanded
from supersnn.errors import UserError, nearest, prefix_errors, shortened
from supersnn.nested import Scalar, merge
from supersnn.parts import is_import_path, one_of
from supersnn.records.metrics import CONSTRAINABLE, OWN
from tune.description.composition import Paths, compose
from tune.description.overrides import parse_override, with_override
from tune.description.relation_ranges import with_weight_ranges
from tune.description.replication import Replicates, Varied, complete_datasets, varied
from tune.description.space import DEFAULTS, SearchParameter
from tune.description.time_span import TimeSpan

Objective = Literal["accuracy", "synaptic_ops"]
"""The keys of `supersnn.records.metrics.OBJECTIVES`."""
NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"


class ArmConfig(ConfigModel):
    """One arm: the teachers and students that it pairs, its distillation losses, search space and fixed values.

    Without `losses` an arm with teachers has the usual ones of its name (`tune.description.arms`). `space` adds to the
    sweep's or overrides it; `set` fixes dotted keys. `losses` may name terms of `loss.own`, which are used nowhere
    else.
    """

    teachers: tuple[Name, ...] = ()
    students: tuple[Name, ...] = ()
    losses: tuple[str, ...] | None = None
    space: dict[str, SearchParameter] = {}
    set: dict[str, Scalar] = {}

    @field_validator("space", mode="before")
    @classmethod
    def _defaults(cls, value: object) -> object:
        return with_defaults(value)

    @field_validator("losses")
    @classmethod
    def _text(cls, losses: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for name in losses or ():
            if not name.isidentifier():
                raise ValueError(f"expected names of loss terms, found {shortened(repr(name))}")
        return losses


class SearchConfig(ConfigModel):
    """The search: its budget, sampler and early stopping. `trials` is a number for each arm, failed ones included.

    With `fair: compute` the arms are kept equal in epochs instead: each may spend `trials` times all epochs, and what
    early stopping saves is spent on further trials. `hours` (without downtime) and `gpu_hours` end the search of all
    arms at once, as does `stagnation`: in every arm, that many trials in a row without an improvement; then arms that
    have had fewer trials catch up.

    `objectives` are optimized, `constraints` are upper bounds on final metrics. A trial is trained with
    `seeds_per_trial` seeds, one after another, and judged by their mean. `sampler` and `scheduler` may be import paths
    of Optuna's samplers and pruners, with arguments of their own. `enqueue` lists values to try first;
    `warm_start` names sweeps of the same store whose ended trials the samplers learn from.
    """

    trials: Count = 16
    sampler: Annotated[str, AfterValidator(one_of("tpe", "random", "qmc", "gp", "cmaes", "nsga2", "nsga3", "grid"))] = (
        "tpe"
    )
    sampler_arguments: PartArguments = NO_ARGUMENTS
    scheduler: Annotated[str, AfterValidator(one_of("asha", "hyperband", "median", "wilcoxon", "none"))] = "asha"
    scheduler_arguments: PartArguments = NO_ARGUMENTS
    fair: Literal["trials", "compute"] = "trials"
    objectives: tuple[Objective, ...] = ("accuracy",)
    constraints: dict[str, Number] = {}
    seeds_per_trial: Count = 1
    startup: Count | None = None
    min_epochs: Count | None = None
    reduction: Integer = Field(2, ge=2)
    max_failures: Integer = Field(2, ge=0)
    enqueue: tuple[dict[str, Scalar], ...] = ()
    warm_start: tuple[Name, ...] = ()
    hours: Positive | None = None
    gpu_hours: Positive | None = None
    stagnation: Count | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.objectives[:1] != ("accuracy",) or len(set(self.objectives)) < len(self.objectives):
            raise ValueError(f"objectives: accuracy must be first, and each unique; found {list(self.objectives)}")
        if len(self.objectives) > 1 and self.sampler == "cmaes":
            raise ValueError("sampler: cmaes supports a single objective only")
        if self.scheduler == "wilcoxon" and self.seeds_per_trial < 2:
            raise ValueError("scheduler: wilcoxon compares seeds; seeds_per_trial must be at least 2")
        for key in ("sampler", "scheduler"):
            name, arguments = getattr(self, key), getattr(self, f"{key}_arguments")
            if arguments and not is_import_path(name):
                raise ValueError(f"{key}_arguments: {name!r} takes none; they are those of an import path")
        unknown = [key for key in self.constraints if key not in CONSTRAINABLE and not key.startswith(OWN)]
        if unknown:
            raise ValueError(f"constraints: {unknown[0]!r} is unknown{nearest(unknown[0], CONSTRAINABLE)}")
        return self

    def startup_trials(self) -> int:
        """Return how many trials of each arm are start-up designs, which the arms share."""
        return min(self.startup or min(10, max(4, self.trials // 4)), self.trials)


class VerifyConfig(ConfigModel):
    """The final runs: each arm's winner is trained again with `seeds` fresh seeds, from `first_seed` on.

    The winner is the best of an arm's `top` trials; several are first trained with `rank_seeds` other seeds each, and
    ranked by their mean validation accuracy. With `train_on: train+validation` the final runs also train on the
    validation images, and so do their teachers, which are refitted.
    """

    seeds: Count = 10
    first_seed: Integer = Field(1000, ge=0)
    top: Count = 1
    rank_seeds: Count = 3
    train_on: Literal["train", "train+validation"] = "train"


class CheckpointConfig(ConfigModel):
    """How often a training is saved, in `seconds`; a trial is saved at its rungs and at its end as well.

    A trial whose worker is lost trains at most so many seconds again. With 0 each epoch is saved before it counts.
    """

    seconds: Annotated[Number, Field(ge=0)] = 30.0


class ResourcesConfig(ConfigModel):
    """The resources of one trial; teachers and final runs take the same.

    `gpus` decides the device: with 0 a trial trains on CPUs, also where there are GPUs; with `auto`, the default, on
    one GPU (one a shard) where a node has that many, else on CPUs. It may be a fraction: trials then share a GPU. With
    a whole number above 1 each batch is split into that many shards, `train.shards`, each on its own GPU, all on one
    node; not measured yet. `cpus` defaults to one per shard.
    `memory` is in bytes, or a text such as "2GB"; it chooses nodes and limits nothing. `accelerator` is one of Ray's
    accelerator types ("A100"), `labels` are labels that a node must have.

    `pack` trains so many trials at once in one process on one GPU, with one copy of the images, each on a stream of its
    own; `cpus` is then what the process takes. `auto` starts with one, and doubles as long as memory and throughput
    allow. On CPUs a pack only takes turns. Not measured on a GPU yet.

    A worker that reports nothing for `stall` (seconds, or a text such as "20 min"), nor for ten times the slowest epoch
    so far, hangs: it is ended, and its work goes on elsewhere.

    As many trials run at once as the nodes hold. `trials_at_once` sets another number: trials beyond the capacity are
    pending, from which an autoscaler learns how many nodes to start.
    """

    cpus: Positive = 1.0
    gpus: Annotated[Number, Field(ge=0)] | Literal["auto"] = "auto"
    pack: Annotated[Count | Literal["auto"], EXCLUDE_DEFAULT_FROM_DIGEST] = 1
    memory: Annotated[ByteSize, Field(gt=0)] | None = None
    accelerator: str | None = Field(None, pattern=r"^[A-Za-z0-9_.-]+$")
    labels: dict[str, Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")]] = {}
    trials_at_once: Count | None = None
    stall: Annotated[TimeSpan, EXCLUDE_DEFAULT_FROM_DIGEST] = 600.0

    @field_validator("gpus")
    @classmethod
    def _integer_above_one(cls, gpus: float | Literal["auto"]) -> float | Literal["auto"]:
        if gpus != "auto" and gpus > 1 and gpus != int(gpus):
            raise ValueError(f"expected a fraction of one GPU or an integer number of GPUs, found {gpus:g}")
        return gpus

    @model_validator(mode="after")
    def _packed_on_one_device(self) -> Self:
        if self.pack != 1 and self.gpus not in (0, 1, "auto"):
            raise ValueError(f"pack: {self.pack} trials share one GPU: expected gpus 1 or auto, found {self.gpus:g}")
        return self

    @property
    def gpus_taken(self) -> float:
        """The GPUs that a trial takes; 0 for `auto`, which `resolved` replaces where a sweep is started."""
        return 0.0 if self.gpus == "auto" else self.gpus

    @property
    def places(self) -> int:
        """How many trials share what one process takes; for `auto` on a GPU the most that Ray is asked for."""
        if self.pack == "auto":
            return 8 if self.gpus_taken else 1
        return self.pack

    def resolved(self, shards: int, gpus_of_nodes: Iterable[float]) -> "ResourcesConfig":
        """Return the resources with a number for `gpus: auto`: one GPU a shard where a node has so many, else none."""
        if self.gpus != "auto":
            return self
        found = max(gpus_of_nodes, default=0.0)
        return self.model_copy(update={"gpus": float(shards) if found >= shards else 0.0})


class SweepConfig(TrainConfig):
    """A sweep. The keys of a training hold for every arm unless the arm or the search space overrides them.

    All arms are searched on each of `datasets`, by label, each merged over `dataset`; without it on `dataset`. The
    search of every arm is repeated in `replicates`, each with sampler and training seeds of its own; their number is
    given, or follows from how well the differences are to be known (`ReplicatesUntil`). `vary` says what else a
    replicate draws anew: its teachers' seeds (`teacher`), and the validation images (`split`), to which its own
    teachers belong. What does not vary is shared.
    """

    name: str = Field(pattern=NAME)
    datasets: Annotated[dict[str, DatasetConfig] | None, Field(min_length=1), EXCLUDE_DEFAULT_FROM_DIGEST] = None
    replicates: Annotated[Replicates, EXCLUDE_DEFAULT_FROM_DIGEST] = 1
    vary: Annotated[tuple[Varied, ...], EXCLUDE_DEFAULT_FROM_DIGEST] = ("search",)
    arms: dict[str, ArmConfig] = Field(min_length=1)
    space: dict[str, SearchParameter] = {}
    search: SearchConfig = SearchConfig()
    verify: VerifyConfig = VerifyConfig()
    resources: ResourcesConfig = ResourcesConfig()
    checkpoint: Annotated[CheckpointConfig, EXCLUDE_FROM_DIGEST] = CheckpointConfig()

    @field_validator("space", mode="before")
    @classmethod
    def _defaults(cls, value: object) -> object:
        return with_defaults(value)

    @field_validator("vary", mode="before")
    @classmethod
    def _in_order(cls, value: object) -> object:
        return varied(value)

    @model_validator(mode="before")
    @classmethod
    def _datasets(cls, data: Any) -> Any:
        return complete_datasets(data)

    @model_validator(mode="before")
    @classmethod
    def _weights_by_kind(cls, data: Any) -> Any:
        return with_weight_ranges(data)

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
        gpus, shards = self.resources.gpus_taken, self.train.shards
        if gpus and max(gpus, 1) != shards:
            raise ValueError(f"resources.gpus: {gpus:g} and train.shards: {shards}; expected one GPU per shard")
        if self.resources.pack != 1 and shards > 1:
            raise ValueError(f"resources.pack: {self.resources.pack} and train.shards: {shards}; expected one of them")
        for name, arm in self.arms.items():
            if "train.shards" in {*self.space, *arm.space, *arm.set}:
                raise ValueError(f"arms.{name}: train.shards is the same in all trials; set it under train")
            batches = {**self.space, **arm.space}.get("train.batch_size")
            if shards > 1 and batches and not _divisible(batches, shards):
                raise ValueError(f"train.batch_size: every choice must be divisible by the {shards} shards")
        return self

    @model_validator(mode="after")
    def _validated_on_unseen_images(self) -> Self:
        if any(images.train_on != "train" for images in (self.dataset, *(self.datasets or {}).values())):
            raise ValueError(
                "dataset.train_on: a search needs unseen validation images; for the final runs set verify.train_on"
            )
        return self

    def trial_epochs(self) -> int:
        """Return the epochs of a trial without early stopping, over all of its seeds."""
        return self.train.epochs * self.search.seeds_per_trial

    def base(self) -> dict[str, Any]:
        """Return the keys of a training, as plain nested values."""
        return {key: value for key, value in self.model_dump(mode="json").items() if key in TrainConfig.model_fields}


def _divisible(batches: SearchParameter, shards: int) -> bool:
    choices = batches.categorical or (1,)
    return all(isinstance(size, int) and size % shards == 0 for size in choices)


def _at(data: Any, section: str, key: str, default: Any) -> Any:
    """Return a value of a file that is not validated yet."""
    values = data.get(section) if isinstance(data, Mapping) else None
    return values.get(key, default) if isinstance(values, Mapping) else default


def with_defaults(space: object) -> object:
    """Return the search space with each `default` replaced by the default range of that key."""
    if not isinstance(space, Mapping):
        return space
    for key, parameter in space.items():
        if parameter == "default" and key not in DEFAULTS:
            raise ValueError(f"{key} has no default range{nearest(key, DEFAULTS)}")
    return {key: DEFAULTS[key] if parameter == "default" else parameter for key, parameter in space.items()}


def load(paths: Paths, overrides: tuple[str, ...] = ()) -> SweepConfig:
    """Return the sweep of a YAML file, or of several (see `compose`), with `key=value` overrides (values are YAML).

    Environment variables in paths, `${NAME}`, are replaced, and its plugins become importable.

    Raises:
        UserError: a file or an override is not valid; one line with the file and the key.
    """
    data, origin = compose(paths, SweepConfig.MOVED_KEYS)
    changed: Mapping[str, Any] = data
    for key, value in map(parse_override, overrides):
        changed = with_override(changed, current_key(SweepConfig, key), value)
    try:
        sweep = parse(SweepConfig, _expanded(changed, origin), origin)
    except UserError:
        if overrides:
            parse(SweepConfig, _expanded(data, origin), origin)  # the files' own mistakes come first
            parse(SweepConfig, _expanded(changed, f"{origin} with --set"), f"{origin} with --set")
        raise
    sweep = _with_absolute_paths(sweep, paths if isinstance(paths, Path) else next(iter(paths)))
    with prefix_errors(origin):
        plugins.activate(sweep.plugins)
    return sweep


def _expanded(data: Mapping[str, Any], origin: str) -> Mapping[str, Any]:
    """Return unvalidated data of a sweep with the environment variables in its paths replaced."""
    with prefix_errors(origin):
        data = with_expanded(data, "datasets")
    return with_expanded_paths(data, origin)


def _with_absolute_paths(sweep: SweepConfig, file: Path) -> SweepConfig:
    """Return a sweep whose paths hold for workers, which have another working folder."""
    changed: dict[str, Any] = {"dataset": _with_absolute_path(sweep.dataset)}
    changed["plugins"] = plugins.absolute(sweep.plugins, file)
    if sweep.datasets:
        changed["datasets"] = {label: _with_absolute_path(images) for label, images in sweep.datasets.items()}
    if sweep.teacher.weights not in (None, DEFAULT_WEIGHTS):
        weights = str(Path(str(sweep.teacher.weights)).expanduser().resolve())
        changed["teacher"] = sweep.teacher.model_copy(update={"weights": weights})
    return sweep.model_copy(update=changed)


def _with_absolute_path(images: DatasetConfig) -> DatasetConfig:
    kind, _, folder = images.name.partition("folder:")
    if kind or not folder:
        return images
    return images.model_copy(update={"name": f"folder:{Path(folder).expanduser().resolve()}"})


def origin_of(paths: Paths, overrides: Iterable[str] = ()) -> str:
    """Return what errors name as the origin of a sweep that `load` has composed of some files and overrides."""
    origin = compose(paths, SweepConfig.MOVED_KEYS)[1]
    keys = [current_key(SweepConfig, key) for key, _ in map(parse_override, overrides)]
    return origin.with_source("--set", keys)
