"""`TrainConfig`: the complete configuration of one training.

The same object is searched over, logged, stored, exported and retrained from.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from supersnn.config_model import (
    NO_ARGUMENTS,
    Arguments,
    ConfigModel,
    Count,
    Fraction,
    Integer,
    Name,
    Number,
    Positive,
    Weight,
    parse,
)
from supersnn.digests import EXCLUDE_DEFAULT_FROM_DIGEST, EXCLUDE_FROM_DIGEST
from supersnn.environment import with_expanded
from supersnn.errors import prefix_errors, shortened
from supersnn.export_config import ExportConfig, TargetConfig, as_target
from supersnn.layer_names import layer_names
from supersnn.nested import rename_keys
from supersnn.parts import is_import_path, one_of, require_form
from supersnn.plain_yaml import read_yaml

LossTerm = Literal["relation", "logit", "feature"]
LOSS_TERMS: tuple[LossTerm, ...] = get_args(LossTerm)
"""The loss terms that need a teacher; each has a section of its name under `loss`."""

DEFAULT_WEIGHTS = "DEFAULT"
"""The `teacher.weights` that stands for those that torchvision or timm recommends, downloaded unless cached."""
_ADDED = EXCLUDE_DEFAULT_FROM_DIGEST
PartArguments = Annotated[Arguments, _ADDED]
"""The arguments of a part that an import path names; see `supersnn.parts`."""
ImportPath = Annotated[str, AfterValidator(require_form)]


class AugmentConfig(ConfigModel):
    """Augmentation of training images. `crop`: padding in pixels; `cutout`: side of the hole; 0 turns either off.

    `resized_crop`: the smallest share of the area that a random window has, which is scaled to the image's size (0:
    off). `policy`: TrivialAugment or AutoAugment (`supersnn.augment_policies`). `mixup` and `cutmix`: α of their Beta
    distribution (`supersnn.mixing`); 0 turns either off.

    `views` is the number of augmented views of each image that a training cycles through: 1 is no augmentation, `off`
    draws a new view in every epoch, for which a teacher runs in the training loop. It holds with and without a teacher,
    so that arms differ in nothing else.
    """

    crop: Integer = Field(0, ge=0)
    flip: bool = False
    cutout: Integer = Field(0, ge=0)
    views: Count | Literal["off"] = 16
    resized_crop: Annotated[Number, Field(ge=0, lt=1), EXCLUDE_DEFAULT_FROM_DIGEST] = 0.0
    policy: Annotated[Literal["none", "trivial", "auto"], EXCLUDE_DEFAULT_FROM_DIGEST] = "none"
    mixup: Annotated[Weight, EXCLUDE_DEFAULT_FROM_DIGEST] = 0.0
    cutmix: Annotated[Weight, EXCLUDE_DEFAULT_FROM_DIGEST] = 0.0

    @field_validator("views", mode="before")
    @classmethod
    def _yaml_off(cls, value: object) -> object:
        return "off" if value is False else value  # YAML 1.1 reads a bare `off` as false


class ResizeConfig(ConfigModel):
    """Images of any size as squares of `side` pixels.

    `crop`: the central square, resized; `fit`: the whole image, resized, with black beside it; `stretch`: the whole
    image, whatever its aspect.
    """

    side: Annotated[Integer, Field(ge=1, le=4096)]
    how: Literal["crop", "fit", "stretch"] = "crop"


class LayoutConfig(ConfigModel):
    """A CSV file in the data set's folder that names its images: the columns with their paths, labels and parts."""

    file: Annotated[str, Field(min_length=1)]
    path: Annotated[str, Field(min_length=1)] = "path"
    label: Annotated[str, Field(min_length=1)] = "label"
    part: Annotated[str, Field(min_length=1)] | None = None


class DatasetConfig(ConfigModel):
    """Data set and its split.

    `images` keeps a stratified subset of so many training images, before validation images are split off. `test` is
    the share that is split off as test part where a data set has none. `split_seed` is separate from the training seed,
    so that trainings with other seeds use the same split; `validation_seed` draws the validation images alone, from the
    same images with the same test part. With `train_on: train+validation` the training includes the validation images,
    for final runs; its validation accuracy is then that of training images. `arguments` are those of a data set of your
    own, whose name is an import path. `resize` and `layout` are for `folder:PATH`.
    """

    name: str
    arguments: PartArguments = NO_ARGUMENTS
    validation: Fraction = 0.15
    test: Fraction = 0.2
    split_seed: Integer = Field(0, ge=0)
    validation_seed: Annotated[Integer | None, Field(ge=0), EXCLUDE_DEFAULT_FROM_DIGEST] = None
    images: Count | None = None
    train_on: Literal["train", "train+validation"] = "train"
    augment: AugmentConfig = AugmentConfig()
    resize: Annotated[ResizeConfig | None, _ADDED] = None
    layout: Annotated[LayoutConfig | None, _ADDED] = None

    @model_validator(mode="after")
    def _of_folders(self) -> Self:
        for key in ("resize", "layout"):
            if getattr(self, key) is not None and not self.name.startswith("folder:"):
                raise ValueError(f"{key}: is for images of one's own, folder:PATH, not for {self.name!r}")
        return self


class NetworkConfig(ConfigModel):
    """A network's body, a student's or a teacher's.

    `norm`: batch norm with statistics over time and batch together; `tdbn` scales it by the threshold. `arguments` are
    those of an architecture of your own, whose name is an import path.
    """

    architecture: Name
    arguments: PartArguments = NO_ARGUMENTS
    time_steps: Count = 2
    norm: Literal["bn", "tdbn"] = "bn"
    stem_stride: Literal[1, 2, 4] | None = None


class NeuronConfig(ConfigModel):
    """The activation: leaky integrate-and-fire (`lif`), also with a learnable decay (`plif`), or ReLU.

    `detach_reset`: the reset passes no gradient to the spike. That is the default here; TET's and tdBN's code lets it
    pass. `scale_input` multiplies the current by 1 - decay, as PLIF is published (Fang et al. 2021, equation 4).

    `kind` and `surrogate` may be import paths; `arguments` are those of such a kind, `surrogate_arguments` those of
    such a surrogate besides `width`.
    """

    kind: Annotated[str, AfterValidator(one_of("lif", "plif", "relu"))] = "lif"
    arguments: PartArguments = NO_ARGUMENTS
    threshold: Positive = 1.0
    decay: Fraction = 0.5
    reset: Literal["hard", "soft"] = "hard"
    surrogate: Annotated[str, AfterValidator(one_of("triangle", "rectangle", "atan", "sigmoid"))] = "triangle"
    surrogate_arguments: PartArguments = NO_ARGUMENTS
    width: Positive = 1.0
    detach_reset: bool = True
    scale_input: Annotated[bool, EXCLUDE_DEFAULT_FROM_DIGEST] = False

    @model_validator(mode="after")
    def _arguments_of_an_own_surrogate(self) -> Self:
        if self.surrogate_arguments and not is_import_path(self.surrogate):
            raise ValueError(f"surrogate_arguments: {self.surrogate!r} takes none; they are those of an import path")
        return self


class TeacherConfig(ConfigModel):
    """A teacher and its training, complete, so that a missing teacher can be trained again to the same bits.

    `weights` is a file with the weights of a trained network, or DEFAULT for those that torchvision or timm recommends;
    the teacher is then imported instead of trained. `fit` trains a new head for it, or all of it, on the train split,
    for `epochs` with `lr`. `arguments` are those of an architecture of your own, whose name is an import path.
    """

    name: Name | None = None
    arguments: PartArguments = NO_ARGUMENTS
    epochs: Count = 20
    seed: Integer = Field(0, ge=0)
    lr: Positive = 0.1
    weight_decay: Weight = 5e-4
    weights: str | None = None
    fit: Annotated[Literal["none", "head", "all"], _ADDED] = "none"

    @model_validator(mode="after")
    def _fits_weights(self) -> Self:
        if self.fit != "none" and self.weights is None:
            raise ValueError(f"fit: {self.fit!r} is for a teacher with weights; set weights, or fit: none")
        return self


class LabelLossConfig(ConfigModel):
    """Cross-entropy of the logits' mean over time (`mean`), or mean of every step's cross-entropy (`per_step`, TET).

    `mse` is the share of TET's regulariser, the squared distance of every logit from `mse_target` (published: 0.001 and
    1.0 with `per_step`). `ensemble` is the weight of a term in which every step learns from the student's own mean over
    time, at `ensemble_temperature`; it needs no teacher.
    """

    kind: Literal["mean", "per_step"] = "mean"
    smoothing: Number = Field(0.0, ge=0, lt=1)
    mse: Annotated[Number, Field(ge=0, lt=1), EXCLUDE_DEFAULT_FROM_DIGEST] = 0.0
    mse_target: Annotated[Number, EXCLUDE_DEFAULT_FROM_DIGEST] = 1.0
    ensemble: Annotated[Weight, EXCLUDE_DEFAULT_FROM_DIGEST] = 0.0
    ensemble_temperature: Annotated[Positive, EXCLUDE_DEFAULT_FROM_DIGEST] = 3.0


class RelationLossConfig(ConfigModel):
    """The pairwise-relational term (`supersnn.relation_loss`). `shuffle` permutes the teacher's samples: a control.

    `pool`: the side that maps are averaged to, `full` to compare whole maps. `layers`: `last`, `last-1` and so on (the
    last maps of the stages, counted from the end), several of them with commas or as a list, or `stages`, the last
    three. `signal`: the student's spikes, their running rates (the mean over the steps so far), or the currents before
    a stage's last spikes. `difference` of two relations: squared, or smooth L1 as RKD has it. `scale: relative` divides
    the term by the variance of the teacher's relations, so that a weight means about the same for every kind.
    `schedule`: of the weight, which is constant, or falls to 0 along a line or half a cosine. `queue`: so many past
    batches are related to the current one too. `kind` may be an import path; `arguments` are its own.
    """

    weight: Weight = 0.0
    kind: Annotated[str, AfterValidator(one_of("cosine", "centred_cosine", "gram", "distance", "angle", "rkd"))] = (
        "centred_cosine"
    )
    arguments: PartArguments = NO_ARGUMENTS
    time: Literal["mean", "concat", "per_step"] = "mean"
    pool: Literal[1, 2, 4, "full"] = 1
    shuffle: bool = False
    layers: Annotated[str, EXCLUDE_DEFAULT_FROM_DIGEST] = "last"
    signal: Annotated[Literal["spikes", "rates", "currents"], EXCLUDE_DEFAULT_FROM_DIGEST] = "spikes"
    difference: Annotated[Literal["squared", "smooth_l1"], EXCLUDE_DEFAULT_FROM_DIGEST] = "squared"
    scale: Annotated[Literal["raw", "relative"], EXCLUDE_DEFAULT_FROM_DIGEST] = "raw"
    schedule: Annotated[Literal["constant", "linear", "cosine"], EXCLUDE_DEFAULT_FROM_DIGEST] = "constant"
    queue: Annotated[Integer, Field(ge=0), EXCLUDE_DEFAULT_FROM_DIGEST] = 0

    @field_validator("layers", mode="before")
    @classmethod
    def _one_text(cls, value: object) -> object:
        return ", ".join(map(str, value)) if isinstance(value, list | tuple) else value

    @field_validator("layers")
    @classmethod
    def _known_layers(cls, value: str) -> str:
        names = layer_names(value)
        return value if value == "stages" else ", ".join(names)

    @model_validator(mode="after")
    def _queued_pairs(self) -> Self:
        if self.queue and self.kind in ("angle", "rkd"):
            raise ValueError(f"queue: expected 0 with kind {self.kind!r}, which relates triplets, found {self.queue}")
        return self


class LogitLossConfig(ConfigModel):
    """The logit (response) term of Hinton et al. 2015.

    `time`: the student's mean over time, or each of its steps, learns from the teacher. `direction` of the divergence:
    forward KL(teacher ‖ student), reverse KL(student ‖ teacher), or the mean of `both`. `weighting`: the term is
    `added` to the label's, or the total is `convex`, (1 - weight) · label + weight · logit, with a weight of at most 1.
    """

    weight: Weight = 0.0
    temperature: Positive = 4.0
    time: Annotated[Literal["mean", "per_step"], EXCLUDE_DEFAULT_FROM_DIGEST] = "mean"
    direction: Annotated[Literal["forward", "reverse", "both"], EXCLUDE_DEFAULT_FROM_DIGEST] = "forward"
    weighting: Annotated[Literal["added", "convex"], EXCLUDE_DEFAULT_FROM_DIGEST] = "added"

    @model_validator(mode="after")
    def _convex(self) -> Self:
        if self.weighting == "convex" and self.weight > 1:
            raise ValueError(f"weight: expected at most 1 with weighting 'convex', found {self.weight:g}")
        return self


class FeatureLossConfig(ConfigModel):
    """The feature term: distance of a learned projection of the student's firing rates to the teacher's feature map.

    `pool`: the side that both maps are averaged to; `full`: the smaller side of the two.
    """

    weight: Weight = 0.0
    pool: Annotated[Literal[1, 2, 4, "full"], EXCLUDE_DEFAULT_FROM_DIGEST] = "full"


class OwnLossConfig(ConfigModel):
    """A term of your own: the import path of a function or class (`supersnn.own_losses`), and its arguments."""

    term: ImportPath
    weight: Weight = 0.0
    arguments: Arguments = NO_ARGUMENTS


class LossConfig(ConfigModel):
    """total = label + relation + logit + feature + own terms, each times its weight.

    `own` is a list of terms, which are named by their attributes, or a mapping of names to terms.
    """

    label: LabelLossConfig = LabelLossConfig()
    relation: RelationLossConfig = RelationLossConfig()
    logit: LogitLossConfig = LogitLossConfig()
    feature: FeatureLossConfig = FeatureLossConfig()
    own: Annotated[dict[str, OwnLossConfig], _ADDED] = {}

    @field_validator("own", mode="before")
    @classmethod
    def _by_name(cls, value: object) -> object:
        if not isinstance(value, list | tuple):
            return value
        terms: dict[str, object] = {}
        for position, term in enumerate(value):
            path = term.get("term") if isinstance(term, Mapping) else term
            if not isinstance(path, str):
                raise ValueError(f"own.{position}: expected a mapping with the key term, an import path")
            name = path.rpartition(":")[2].rpartition(".")[2]
            if name in terms:
                raise ValueError(f"own: two terms are called {name!r}; write own as a mapping of names to terms")
            terms[name] = term if isinstance(term, Mapping) else {"term": term}
        return terms

    @field_validator("own")
    @classmethod
    def _names(cls, own: dict[str, OwnLossConfig]) -> dict[str, OwnLossConfig]:
        for name in own:
            if not name.isidentifier() or name in (*LOSS_TERMS, "label", "total", "own"):
                raise ValueError(f"own: {shortened(repr(name))} cannot be the name of a term; choose another one")
        return own

    def terms_on(self) -> tuple[str, ...]:
        """Return the terms with a weight above zero but the label's; those of `LOSS_TERMS` need a teacher."""
        own = (name for name, term in self.own.items() if term.weight > 0)
        return (*(term for term in LOSS_TERMS if getattr(self, term).weight > 0), *own)

    def weight(self, term: str) -> float:
        """Return the weight of one of the terms of `terms_on`."""
        weight: float = (self.own[term] if term in self.own else getattr(self, term)).weight
        return weight


class OptimizerConfig(ConfigModel):
    """SGD with Nesterov momentum, or AdamW; `warmup` is the share of all steps with a rising learning rate.

    `ema` is the decay of a moving average of the weights, which is then what is evaluated and kept; 0 turns it off.

    `name` may be the import path of a torch optimiser; `arguments` are its own.
    """

    name: Annotated[str, AfterValidator(one_of("sgd", "adamw"))] = "sgd"
    arguments: PartArguments = NO_ARGUMENTS
    lr: Positive = 0.1
    momentum: Number = Field(0.9, ge=0, lt=1)
    weight_decay: Weight = 5e-4
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: Number = Field(0.1, ge=0, lt=1)
    clip: Positive | None = None
    ema: Annotated[Number, Field(ge=0, lt=1), EXCLUDE_DEFAULT_FROM_DIGEST] = 0.0


class LoopConfig(ConfigModel):
    """The training loop. The number of CPU threads is part of it, because results depend on it bit by bit.

    `shards` is the number of processes that each batch is split over, each with its own `threads`, and on GPUs with its
    own GPU. It has to divide the batch. `metrics` are import paths of functions that are called after each epoch
    (`supersnn.own_metrics`).

    `graph`, `deterministic` and `tf32` are of GPUs, and change nothing on CPUs. With `graph: auto` a step is captured
    once and then replayed, so that the GPU does not wait for Python; `off` computes the same without, as is always done
    with several shards, a queue of the relational term, or parts of one's own (any import path). `deterministic`
    uses only algorithms that give the same bits again on the same kind of GPU. `tf32` lets convolutions in `fp32` round
    their inputs to TF32.
    """

    epochs: Count = 12
    batch_size: Integer = Field(64, ge=2)
    threads: Count = 1
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    channels_last: bool = True
    shards: Annotated[Count, EXCLUDE_DEFAULT_FROM_DIGEST] = 1
    graph: Annotated[Literal["auto", "off"], EXCLUDE_DEFAULT_FROM_DIGEST] = "auto"
    deterministic: Annotated[bool, EXCLUDE_DEFAULT_FROM_DIGEST] = False
    tf32: Annotated[bool, EXCLUDE_DEFAULT_FROM_DIGEST] = True
    metrics: Annotated[tuple[ImportPath, ...], _ADDED] = ()

    @field_validator("graph", mode="before")
    @classmethod
    def _yaml_off(cls, value: object) -> object:
        return "off" if value is False else value

    @field_validator("shards")
    @classmethod
    def _divides_batch(cls, shards: int, info: ValidationInfo) -> int:
        batch = info.data.get("batch_size", shards)
        if batch % shards:
            raise ValueError(f"expected a divisor of train.batch_size {batch}, found {shards}")
        return shards


class TrainConfig(ConfigModel):
    """Complete description of a training.

    `target` and `export` are what its export folder is for (`supersnn.export_config`). `plugins` are the packages that
    its import paths are in (`supersnn.plugins`). `teacher.views` is accepted as an older name of
    `dataset.augment.views`.
    """

    MOVED_KEYS = {"dataset.augment.views": "teacher.views"}

    dataset: DatasetConfig
    student: NetworkConfig
    neuron: NeuronConfig = NeuronConfig()
    teacher: TeacherConfig = TeacherConfig()
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    train: LoopConfig = LoopConfig()
    seed: Integer = Field(0, ge=0)
    target: Annotated[TargetConfig | None, BeforeValidator(as_target), EXCLUDE_FROM_DIGEST] = None
    export: Annotated[ExportConfig, EXCLUDE_FROM_DIGEST] = ExportConfig()
    plugins: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], EXCLUDE_FROM_DIGEST] = ()

    @model_validator(mode="before")
    @classmethod
    def _older_names(cls, data: Any) -> Any:
        return rename_keys(data, cls.MOVED_KEYS)

    @model_validator(mode="after")
    def _teacher_and_terms(self) -> Self:
        terms = self.loss.terms_on()
        if type(self) is not TrainConfig:  # the arms of a sweep have the teachers
            return self
        if terms and terms[0] in LOSS_TERMS and self.teacher.name is None:
            raise ValueError(f"loss.{terms[0]}.weight is above zero, which requires teacher.name")
        if self.teacher.name is not None and not terms:
            raise ValueError(
                f"teacher.name is {self.teacher.name!r}, but the weight of every loss term with a teacher is zero: "
                f"set one of {', '.join(f'loss.{term}.weight' for term in LOSS_TERMS)}"
            )
        return self

    @model_validator(mode="after")
    def _arguments_of_own_parts(self) -> Self:
        if type(self) is not TrainConfig:  # the arms of a sweep have the names
            return self
        for section, (name, arguments) in self.arguments().items():
            if arguments and not (name and is_import_path(name)):
                raise ValueError(
                    f"{section}.arguments: {name!r} takes none; arguments are those of a part that an import path names"
                )
        return self

    def import_paths(self) -> list[str]:
        """Return the import paths in the configuration."""
        named = [name for name, _ in self.arguments().values()]
        named += [self.neuron.surrogate, *self.train.metrics, *(own.term for own in self.loss.own.values())]
        return [name for name in named if name is not None and is_import_path(name)]

    def arguments(self) -> dict[str, tuple[str | None, Mapping[str, Any]]]:
        """Return name and arguments of each part, by the section that has both."""
        return {
            "dataset": (self.dataset.name, self.dataset.arguments),
            "student": (self.student.architecture, self.student.arguments),
            "neuron": (self.neuron.kind, self.neuron.arguments),
            "teacher": (self.teacher.name, self.teacher.arguments),
            "loss.relation": (self.loss.relation.kind, self.loss.relation.arguments),
            "optimizer": (self.optimizer.name, self.optimizer.arguments),
        }

    @model_validator(mode="after")
    def _shardable(self) -> Self:
        if self.train.shards > 1 and ":" in self.student.architecture:
            raise ValueError(
                f"train.shards: expected 1 with student.architecture {self.student.architecture!r}, found "
                f"{self.train.shards}: only this package's own architectures support shards"
            )
        if self.train.shards > 1 and self.loss.own:
            raise ValueError(f"train.shards: expected 1 with terms under loss.own, found {self.train.shards}")
        return self


PATHS = ("dataset.name", "teacher.weights")
"""The keys whose values are, or may be, paths: `${NAME}` in them is an environment variable."""


def with_expanded_paths(data: Mapping[str, Any], origin: str) -> Mapping[str, Any]:
    """Return unvalidated data of a training with the environment variables in its paths replaced.

    Raises:
        UserError: a variable is not set; the text begins with the origin.
    """
    with prefix_errors(origin):
        for key in PATHS:
            data = with_expanded(data, key)
    return data


def load(path: Path) -> TrainConfig:
    """Return the training configuration in a YAML file; its plugins are not activated (`supersnn.plugins.activate`)."""
    return parse(TrainConfig, with_expanded_paths(read_yaml(path), str(path)), str(path))
