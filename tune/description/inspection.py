"""What a sweep needs from outside, looked at before it starts: images, networks for them, weights, earlier sweeps."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from supersnn import parts
from supersnn.config import DEFAULT_WEIGHTS, NetworkConfig, NeuronConfig, TrainConfig
from supersnn.data import DataSummary, inspect
from supersnn.errors import UserError, prefix_errors, shortened
from supersnn.networks.base import ImageShape
from supersnn.networks.build import build
from supersnn.parts import is_import_path
from supersnn.trying import try_training
from tune.description import own_parts, target
from tune.description.arms import Arm, resolve_again
from tune.description.replication import labels, sweep_of_cell
from tune.description.sweep import ResourcesConfig, SweepConfig, load
from tune.store import Store

_NETWORK_KEYS = (*target.KEYS, "train.precision")
_ANY = ImageShape(3, 224), 10
"""Images and classes for networks whose data set has to be downloaded first."""


def inspect_sweep(sweep: SweepConfig, arms: Mapping[str, Arm], store: Store, origin: str) -> dict[str, DataSummary]:
    """Return what is known about a sweep's images without opening a test image; nothing is downloaded or written.

    By the labels of its data sets; that of a sweep with one under `dataset` is empty.

    Raises:
        UserError: the sweep would fail: the images are missing or too few, a network cannot be built for them, the
            teachers' weights are no file, or a sweep under `search.warm_start` does not exist.
    """
    with prefix_errors(origin):
        _check_earlier(sweep, arms, store)
        _check_weights(sweep.teacher.weights, {teacher for arm in arms.values() for teacher in arm.teachers})
        first, *others = labels(sweep)
        found = {first or "": _inspect_images(sweep, arms)}
        for label in others:
            alone = sweep_of_cell(sweep, label, 0)
            with prefix_errors(f"datasets.{label}"):
                found[str(label)] = _inspect_images(alone, resolve_again(alone))
    return found


def _inspect_images(sweep: SweepConfig, arms: Mapping[str, Arm]) -> DataSummary:
    """Return what is known about the images of a sweep with one data set; see `inspect_sweep`."""
    summary = inspect(next(next(iter(arms.values())).trainings(_NETWORK_KEYS)).dataset)
    _check_data(summary, sweep.dataset.augment.crop)
    networks = Networks(summary)
    for name, arm in arms.items():
        for teacher in arm.teachers:
            networks.check_teacher(teacher, arm.base["teacher"].get("arguments", {}), f"arms.{name}.teachers")
        for config in arm.trainings(_NETWORK_KEYS):
            own = sweep.arms[name].students
            networks.check(config.student, config.neuron, f"arms.{name}.students" if own else "student.architecture")
            _check_precision(config, _may_train_on_gpus(sweep.resources))
        with prefix_errors(f"arms.{name}"):
            target.require_fit(arm.trainings(target.KEYS), summary.shape, len(summary.classes))
        for config in own_parts.trainings(arm):
            with prefix_errors(f"arms.{name}"):
                networks.try_training(config)
    return summary


def is_here(dataset: str) -> bool:
    """Return whether a data set can be looked at on this machine, and not perhaps on a cluster's nodes only."""
    kind, _, folder = dataset.partition("folder:")
    return bool(kind) or not folder or Path(folder).is_dir()


def inspect_training(config: TrainConfig, origin: str) -> None:
    """Check what a single training needs from outside, before its teacher is trained.

    Raises:
        UserError: it would fail; see `inspect_sweep`.
    """
    with prefix_errors(origin):
        _check_weights(config.teacher.weights, {config.teacher.name} - {None})
        summary = inspect(config.dataset)
        _check_data(summary, config.dataset.augment.crop)
        networks = Networks(summary)
        if config.teacher.name is not None:
            networks.check_teacher(config.teacher.name, config.teacher.arguments, "teacher.name")
        networks.check(config.student, config.neuron, "student.architecture")
        target.require_fit([config], summary.shape, len(summary.classes))
        if config.import_paths():
            networks.try_training(config)
        _check_precision(config, on_gpus=torch.cuda.is_available())


class Networks:
    """Checks that networks can be built for a data set's images: each once, without memory for its weights."""

    def __init__(self, summary: DataSummary) -> None:
        self._shape, self._classes = _ANY if summary.shape is None else (summary.shape, len(summary.classes))
        self._checked = set[tuple[str, str]]()

    def check_teacher(self, architecture: str, arguments: Mapping[str, Any], key: str) -> None:
        """Check the network of a teacher.

        Raises:
            UserError: it cannot be built; the text begins with the key.
        """
        own = {k: v for k, v in arguments.items() if is_import_path(architecture) and parts.accepts(architecture, k)}
        network = NetworkConfig(architecture=architecture, arguments=own, time_steps=1)
        self.check(network, NeuronConfig(kind="relu"), key)

    def check(self, network: NetworkConfig, neuron: NeuronConfig, key: str) -> None:
        """Check a network.

        Raises:
            UserError: it cannot be built; the text begins with the key.
        """
        without = set() if is_import_path(network.architecture) else {"time_steps"}
        identity = network.model_dump_json(exclude=without), neuron.kind
        if identity in self._checked:
            return
        self._checked.add(identity)
        with torch.random.fork_rng([]):
            try:
                with torch.device("meta"):
                    build(network, neuron, self._shape, self._classes)
            except Exception:  # some of other libraries' networks cannot be built without memory
                self._build(network, neuron, key)

    def try_training(self, config: TrainConfig) -> None:
        """Take a step of a training, on random images of the data set's shape.

        Raises:
            UserError: it fails.
        """
        try_training(config, self._shape, self._classes)

    def _build(self, network: NetworkConfig, neuron: NeuronConfig, key: str) -> None:
        try:
            with prefix_errors(key):
                build(network, neuron, self._shape, self._classes)
        except UserError:
            raise
        except Exception as error:  # whatever another library's constructor raises
            reason = shortened(str(error) or type(error).__name__, 200)
            raise UserError(f"{key}: {network.architecture!r} cannot be built for these images: {reason}") from error


def _check_earlier(sweep: SweepConfig, arms: Mapping[str, Arm], store: Store) -> None:
    """Check that the sweeps of a warm start exist, and have an arm of this one."""
    for name in sweep.search.warm_start:
        with prefix_errors("search.warm_start"):
            folder = store.existing(name)
            earlier = load(folder.config).arms
        if not earlier.keys() & arms.keys():
            raise UserError(
                f"search.warm_start: {name!r} has none of this sweep's arms, but {', '.join(earlier)}: nothing to learn"
            )


def _check_weights(weights: str | None, teachers: set[str] | set[str | None]) -> None:
    if weights in (None, DEFAULT_WEIGHTS):
        return
    path = Path(str(weights))
    if not path.is_file():
        raise UserError(f"teacher.weights: {weights} is {'no file' if path.exists() else 'not there'}")
    if not os.access(path, os.R_OK):
        raise UserError(f"teacher.weights: {weights} cannot be read: Permission denied")
    if len(teachers) > 1:
        names = ", ".join(sorted(map(str, teachers)))
        raise UserError(f"teacher.weights: {weights} is one network's, but there are {len(teachers)} teachers: {names}")


def _check_data(summary: DataSummary, crop: int) -> None:
    if summary.fault is not None:
        raise UserError(summary.fault)
    if summary.shape is not None and crop > summary.shape.side:
        raise UserError(
            f"dataset.augment.crop: expected at most the images' side, {summary.shape.side} pixels, found {crop}"
        )


def _may_train_on_gpus(resources: ResourcesConfig) -> bool:
    """Return whether trials train on GPUs, as far as that is known here: with `auto`, by this machine's own."""
    return torch.cuda.is_available() if resources.gpus == "auto" else resources.gpus > 0


def _check_precision(config: TrainConfig, on_gpus: bool) -> None:
    if config.train.precision != "fp32" and not on_gpus:
        raise UserError(
            f"train.precision: {config.train.precision!r} requires a CUDA device; expected 'fp32', or resources.gpus"
        )
