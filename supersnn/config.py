"""One training, described: a `TrainConfig` is what is searched, logged, exported and trained again.

It is always this same object, on the command line, in a store and in an export.
"""

from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, ValidationInfo, field_validator, model_validator

from supersnn.config_model import (
    EXCLUDE_DEFAULT_FROM_DIGEST,
    ConfigModel,
    Count,
    Fraction,
    Positive,
    Weight,
    parse,
    read_yaml,
)

LossTerm = Literal["relation", "logit", "feature"]
LOSS_TERMS: tuple[LossTerm, ...] = get_args(LossTerm)
"""The terms of the loss that need a teacher, each with a section of its name under `loss`."""


class AugmentConfig(ConfigModel):
    """How a training image is varied. `crop`: padding in pixels; `cutout`: side of the hole; 0 is off."""

    crop: int = Field(0, ge=0)
    flip: bool = False
    cutout: int = Field(0, ge=0)


class DatasetConfig(ConfigModel):
    """Which images, and how they are cut.

    `images` keeps a stratified part of the training images (before the validation cut); `test` is the share
    cut off where a data set has no test part of its own. `split_seed` is fixed for a sweep, so that fresh
    training seeds never move the split. With `train_on: train+validation` the validation images are trained on too:
    for a final training, whose validation accuracy is then that of images it has seen.
    """

    name: str
    validation: Fraction = 0.15
    test: Fraction = 0.2
    split_seed: int = Field(0, ge=0)
    images: Count | None = None
    train_on: Literal["train", "train+validation"] = "train"
    augment: AugmentConfig = AugmentConfig()


class StudentConfig(ConfigModel):
    """The network's body. `norm`: batch norm over time and batch together, `tdbn` scales it by the threshold."""

    architecture: str
    time_steps: Count = 2
    norm: Literal["bn", "tdbn"] = "bn"
    stem_stride: Literal[1, 2, 4] | None = None


class NeuronConfig(ConfigModel):
    """The activation: leaky integrate-and-fire, the same with a learnable decay, or ReLU for an artificial one."""

    kind: Literal["lif", "plif", "relu"] = "lif"
    threshold: Positive = 1.0
    decay: Fraction = 0.5
    reset: Literal["hard", "soft"] = "hard"
    surrogate: Literal["triangle", "rectangle", "atan", "sigmoid"] = "triangle"
    width: Positive = 1.0
    detach_reset: bool = True


class TeacherConfig(ConfigModel):
    """A teacher's whole recipe, so that a missing one can be trained again to the same bits.

    `views` is how many augmented views of an image a training cycles through, whether it has a teacher or not
    (arms must differ in nothing else): 1 is no augmentation, `off` draws a new view every epoch and runs the
    teacher in the training loop. `weights` names a file of the user's own instead of training.
    """

    name: str | None = None
    epochs: Count = 20
    seed: int = Field(0, ge=0)
    lr: Positive = 0.1
    weight_decay: Weight = 5e-4
    views: Count | Literal["off"] = 16
    weights: str | None = None

    @field_validator("views", mode="before")
    @classmethod
    def _yaml_off(cls, value: object) -> object:
        return "off" if value is False else value  # YAML 1.1 reads a bare `off` as false


class LabelLossConfig(ConfigModel):
    """Cross-entropy on the logits' mean over time, or the mean of each step's cross-entropy (TET)."""

    kind: Literal["mean", "per_step"] = "mean"
    smoothing: float = Field(0.0, ge=0, lt=1)


class RelationLossConfig(ConfigModel):
    """The pairwise-relational term. `shuffle` compares with the relations of other samples: a control."""

    weight: Weight = 0.0
    kind: Literal["cosine", "centred_cosine", "gram", "distance"] = "centred_cosine"
    time: Literal["mean", "concat", "per_step"] = "mean"
    pool: Literal[1, 2, 4] = 1
    shuffle: bool = False


class LogitLossConfig(ConfigModel):
    """The logit (response) term of Hinton et al. 2015."""

    weight: Weight = 0.0
    temperature: Positive = 4.0


class FeatureLossConfig(ConfigModel):
    """The feature term: a learned projection of the student's rate against the teacher's map."""

    weight: Weight = 0.0


class LossConfig(ConfigModel):
    """total = label + relation + logit + feature, each times its weight."""

    label: LabelLossConfig = LabelLossConfig()
    relation: RelationLossConfig = RelationLossConfig()
    logit: LogitLossConfig = LogitLossConfig()
    feature: FeatureLossConfig = FeatureLossConfig()

    def terms_on(self) -> tuple[LossTerm, ...]:
        """Return the terms that need a teacher and have a weight above zero."""
        return tuple(term for term in LOSS_TERMS if getattr(self, term).weight > 0)


class OptimizerConfig(ConfigModel):
    """SGD with Nesterov momentum, or AdamW; `warmup` is the share of all steps that the rate rises over."""

    name: Literal["sgd", "adamw"] = "sgd"
    lr: Positive = 0.1
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: Weight = 5e-4
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: float = Field(0.1, ge=0, lt=1)
    clip: Positive | None = None


class LoopConfig(ConfigModel):
    """How long and how: the number of CPU threads is part of it, because the bits depend on it.

    `shards` is the number of processes that each batch is cut over, each with `threads` of its own, and on GPUs with a
    GPU of its own. It has to divide the batch.
    """

    epochs: Count = 12
    batch_size: int = Field(64, ge=2)
    threads: Count = 1
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    channels_last: bool = True
    shards: Annotated[Count, EXCLUDE_DEFAULT_FROM_DIGEST] = 1

    @field_validator("shards")
    @classmethod
    def _of_equal_size(cls, shards: int, others: ValidationInfo) -> int:
        batch = others.data.get("batch_size", shards)
        if batch % shards:
            raise ValueError(f"expected a divisor of train.batch_size {batch}, found {shards}")
        return shards


class TrainConfig(ConfigModel):
    """The one description of a training."""

    dataset: DatasetConfig
    student: StudentConfig
    neuron: NeuronConfig = NeuronConfig()
    teacher: TeacherConfig = TeacherConfig()
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    train: LoopConfig = LoopConfig()
    seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _terms_have_a_teacher(self) -> Self:
        on = self.loss.terms_on()
        if on and self.teacher.name is None:
            raise ValueError(f"loss.{on[0]}.weight is above zero, so teacher.name must be given")
        if self.teacher.name is not None and not on and type(self) is TrainConfig:
            raise ValueError(f"teacher.name is {self.teacher.name!r}, but no loss term with it has a weight")
        return self

    @model_validator(mode="after")
    def _shards_of_our_own(self) -> Self:
        if self.train.shards > 1 and ":" in self.student.architecture:
            raise ValueError(
                f"train.shards: expected 1 with student.architecture {self.student.architecture!r}, found "
                f"{self.train.shards}: only this package's own architectures can be cut into shards"
            )
        return self


def load(path: Path) -> TrainConfig:
    """Return the training that a YAML file describes."""
    return parse(TrainConfig, read_yaml(path), str(path))
