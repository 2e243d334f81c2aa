"""One training, described: frozen objects that refuse unknown keys, their YAML and their flat dotted form.

A `TrainConfig` is what is searched, logged, exported and trained again: always this same object.
"""

import hashlib
import json
from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from supersnn.errors import UserError, nearest

Fraction = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]

UNMARKED = "its default leaves a digest as it is"
"""The mark of a key that came after the first stores: with its default, a section has the digest of one without it."""


class Section(BaseModel):
    """A part of a configuration: frozen, with no key but those it names, and no NaN or infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class AugmentConfig(Section):
    """How a training image is varied. `crop`: padding in pixels; `cutout`: side of the hole; 0 is off."""

    crop: int = Field(0, ge=0)
    flip: bool = False
    cutout: int = Field(0, ge=0)


class DatasetConfig(Section):
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


class StudentConfig(Section):
    """The network's body. `norm`: batch norm over time and batch together, `tdbn` scales it by the threshold."""

    architecture: str
    time_steps: Count = 2
    norm: Literal["bn", "tdbn"] = "bn"
    stem_stride: Literal[1, 2, 4] | None = None


class NeuronConfig(Section):
    """The activation: leaky integrate-and-fire, the same with a learnable decay, or ReLU for an artificial one."""

    kind: Literal["lif", "plif", "relu"] = "lif"
    threshold: Positive = 1.0
    decay: Fraction = 0.5
    reset: Literal["hard", "soft"] = "hard"
    surrogate: Literal["triangle", "rectangle", "atan", "sigmoid"] = "triangle"
    width: Positive = 1.0
    detach_reset: bool = True


class TeacherConfig(Section):
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


class LabelLossConfig(Section):
    """Cross-entropy on the logits' mean over time, or the mean of each step's cross-entropy (TET)."""

    kind: Literal["mean", "per_step"] = "mean"
    smoothing: float = Field(0.0, ge=0, lt=1)


class RelationLossConfig(Section):
    """The pairwise-relational term. `shuffle` compares with the relations of other samples: a control."""

    weight: Weight = 0.0
    kind: Literal["cosine", "centred_cosine", "gram", "distance"] = "centred_cosine"
    time: Literal["mean", "concat", "per_step"] = "mean"
    pool: Literal[1, 2, 4] = 1
    shuffle: bool = False


class LogitLossConfig(Section):
    """The logit (response) term of Hinton et al. 2015."""

    weight: Weight = 0.0
    temperature: Positive = 4.0


class FeatureLossConfig(Section):
    """The feature term: a learned projection of the student's rate against the teacher's map."""

    weight: Weight = 0.0


class LossConfig(Section):
    """total = label + relation + logit + feature, each times its weight."""

    label: LabelLossConfig = LabelLossConfig()
    relation: RelationLossConfig = RelationLossConfig()
    logit: LogitLossConfig = LogitLossConfig()
    feature: FeatureLossConfig = FeatureLossConfig()

    def terms_on(self) -> tuple[str, ...]:
        """Return the names of the teacher's terms with a weight above zero."""
        return tuple(t for t in ("relation", "logit", "feature") if getattr(self, t).weight > 0)


class OptimizerConfig(Section):
    """SGD with Nesterov momentum, or AdamW; `warmup` is the share of all steps that the rate rises over."""

    name: Literal["sgd", "adamw"] = "sgd"
    lr: Positive = 0.1
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: Weight = 5e-4
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: float = Field(0.1, ge=0, lt=1)
    clip: Positive | None = None


class LoopConfig(Section):
    """How long and how: the number of CPU threads is part of it, because the bits depend on it.

    `shards` is the number of processes that each batch is cut over, each with `threads` of its own, and on GPUs with a
    GPU of its own. It has to divide the batch.
    """

    epochs: Count = 12
    batch_size: int = Field(64, ge=2)
    threads: Count = 1
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    channels_last: bool = True
    shards: Annotated[Count, UNMARKED] = 1

    @field_validator("shards")
    @classmethod
    def _of_equal_size(cls, shards: int, others: ValidationInfo) -> int:
        batch = others.data.get("batch_size", shards)
        if batch % shards:
            raise ValueError(f"expected a divisor of train.batch_size {batch}, found {shards}")
        return shards


class TrainConfig(Section):
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


S = TypeVar("S", bound=Section)


class _OneKeyOnce(yaml.SafeLoader):
    """PyYAML's safe loader, except that a key given twice in one mapping is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} twice", node.start_mark)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file.

    Raises:
        UserError: the file is missing, is not YAML, holds a key twice, or is not a mapping.
    """
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_OneKeyOnce)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise UserError(f"{path}: expected a mapping of keys, found {type(data).__name__}")
    return data


def to_yaml(config: Section) -> str:
    """Return the configuration as YAML, complete, in the order of its fields."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def parse(model: type[S], data: Mapping[str, Any], origin: str) -> S:
    """Return `data` as a `model`; `origin` (a file's name, usually) stands first in every complaint.

    Raises:
        UserError: one line that names the key, its value, what was expected, and the nearest right key.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise UserError("; ".join(_complaints(model, error, origin))) from error


def load(path: Path) -> TrainConfig:
    """Return the training that a YAML file describes."""
    return parse(TrainConfig, read_yaml(path), str(path))


def _complaints(model: type[Section], error: ValidationError, origin: str) -> Iterator[str]:
    for fault in error.errors():
        key = ".".join(str(part) for part in fault["loc"])
        if fault["type"] == "extra_forbidden":
            known = _fields_at(model, fault["loc"][:-1])
            parent = "".join(f"{part}." for part in fault["loc"][:-1])
            hint = nearest(str(fault["loc"][-1]), known).replace("mean '", f"mean '{parent}")
            expected = "" if hint else f"; known here: {', '.join(known)}"
            yield f"{origin}: {key}: unknown key{hint}{expected}"
        elif fault["type"] == "missing":
            yield f"{origin}: {key}: this key is needed"
        elif fault["type"] == "value_error":
            yield f"{origin}: {key + ': ' if key else ''}{fault['msg'].removeprefix('Value error, ')}"
        else:
            yield f"{origin}: {key}: {fault['msg'][0].lower()}{fault['msg'][1:]}, found {fault['input']!r}"


def _fields_at(model: type[Section], where: tuple[int | str, ...]) -> list[str]:
    here: Any = model
    for part in where:
        field = here.model_fields.get(str(part)) if isinstance(here, type) and issubclass(here, Section) else None
        if field is None:
            return _fields_of_values(here, part)
        here = field.annotation
    return list(here.model_fields) if isinstance(here, type) and issubclass(here, Section) else []


def _fields_of_values(annotation: Any, _key: object) -> list[str]:
    """Fields of the sections that a mapping such as `dict[str, Section]` holds."""
    for argument in getattr(annotation, "__args__", ()):
        if isinstance(argument, type) and issubclass(argument, Section):
            return list(argument.model_fields)
    return []


Scalar = str | int | float | bool | None


def flatten(config: Section | Mapping[str, Any]) -> dict[str, Scalar]:
    """Return every leaf of a configuration (or of nested plain values) by dotted key, as ``loss.relation.weight``."""

    def leaves(data: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Scalar]]:
        for key, value in data.items():
            if isinstance(value, Mapping):
                yield from leaves(value, f"{prefix}{key}.")
            else:
                yield prefix + key, value

    return dict(leaves(config.model_dump(mode="json") if isinstance(config, Section) else config, ""))


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return the nested mapping of dotted keys: the inverse of `flatten`."""
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        *parents, leaf = key.split(".")
        here = nested
        for parent in parents:
            here = here.setdefault(parent, {})
            if not isinstance(here, dict):
                raise UserError(f"{key}: {parent!r} is a value, not a section")
        here[leaf] = value
    return nested


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with the values of `over` laid upon it, section by section; neither is changed."""
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def with_values(config: S, values: Mapping[str, Any], origin: str = "values") -> S:
    """Return the configuration with the values of some dotted keys replaced, validated anew."""
    return parse(type(config), merge(config.model_dump(mode="json"), unflatten(values)), origin)


def digest(*parts: object) -> str:
    """Return 16 hexadecimal digits of the SHA-256 of the parts' canonical JSON; sections count by their values.

    Stored teachers, banks and checkpoints are found by it, so it must stay what it was when a section gets a new key:
    keys marked `UNMARKED` are left out while they have their default.
    """
    plain = [_marked(part) if isinstance(part, Section) else part for part in parts]
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _marked(section: Section) -> dict[str, Any]:
    """The values of a section that its digest is of."""
    values = section.model_dump(mode="json")
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, Section):
            values[name] = _marked(value)
        elif UNMARKED in field.metadata and value == field.default:
            del values[name]
    return values
