"""Teachers: artificial networks, trained once from their own configuration or imported from a file, kept in a store."""

import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from supersnn import checkpoint, teacher_fit, teacher_weights
from supersnn.config import DEFAULT_WEIGHTS, LoopConfig, NetworkConfig, NeuronConfig, OptimizerConfig, TrainConfig, load
from supersnn.config_model import to_yaml, with_values
from supersnn.data import TrainingData
from supersnn.digests import digest
from supersnn.epoch_report import Snapshot
from supersnn.errors import UserError, prefix_errors
from supersnn.files import DamagedFile, locked, sha256, write_atomically
from supersnn.measurement import measure
from supersnn.mixing import is_mixed
from supersnn.networks.base import ImageShape, Network
from supersnn.networks.build import build, build_trained, family, require_buildable
from supersnn.numerics import gpu_precision
from supersnn.operations import Operations
from supersnn.training import is_snapshot_of, train

Progress = Callable[[str, int, int], None]
"""Called with the name of the current stage, how many of its parts are done, and how many there are."""

BATCH_SIZE = 64  # of every teacher's training
_AGAIN = "delete the folder to train the teacher again"
SAVE_EVERY = 30.0  # seconds of training that are lost at most when the process is killed


@dataclass(frozen=True, eq=False)
class Teacher:
    """A frozen network and its record.

    config: its own training.
    network: in evaluation mode, without gradients.
    digest: address of that training on this split.
    weights_digest: of the resulting weights.
    seconds: duration of the training.
    known_split: it was trained on this split, so that it has not seen the validation images. For imported weights
        without a recorded split this is unknown.
    precision: of its outputs, that of the device which it is on (`numerics.gpu_precision`).
    """

    config: TrainConfig
    network: Network
    digest: str
    weights_digest: str
    family: str
    parameters: int
    val_accuracy: float
    operations: Operations
    seconds: float
    known_split: bool
    precision: Literal["fp32", "bf16"] = "fp32"

    def __repr__(self) -> str:
        """Return the architecture, its size, and its accuracy."""
        name = self.config.student.architecture
        return f"Teacher({name}, {self.parameters:,} parameters, validation accuracy {self.val_accuracy:.4f})"


def recipe(config: TrainConfig) -> TrainConfig:
    """Return the teacher's own training: the architecture `teacher.name` with ReLU, on the same split.

    It depends on `dataset`, `teacher` and `train.threads` only, none of which a search varies between trials, so that
    all trials of a sweep share a teacher. Batch size and precision are constants here; on a GPU a teacher is trained in
    `numerics.gpu_precision`, under the same address.
    """
    teacher = config.teacher
    if teacher.name is None:
        raise ValueError("teacher.name is not set: there is no teacher to train")
    return TrainConfig(
        dataset=config.dataset,
        student=NetworkConfig(architecture=teacher.name, arguments=teacher.arguments, time_steps=1),
        neuron=NeuronConfig(kind="relu"),
        optimizer=OptimizerConfig(lr=teacher.lr, weight_decay=teacher.weight_decay),
        train=LoopConfig(epochs=teacher.epochs, batch_size=BATCH_SIZE, threads=config.train.threads),
        seed=teacher.seed,
        plugins=config.plugins,
    )


def address(config: TrainConfig, data: TrainingData) -> str:
    """Return the digest of the teacher that `config.teacher` describes: the name of its folder in a store.

    Raises:
        UserError: its weights file cannot be read.
    """
    mixed = ("mixed labels",) if is_mixed(config.dataset.augment) else ()  # earlier versions fitted to others
    fitted = () if config.teacher.fit == "none" else (config.teacher.fit, *mixed)
    return digest(recipe(config), data.fingerprint, _weights_identity(config), *fitted)


def require_available(config: TrainConfig, shape: ImageShape, classes: int) -> None:
    """Check that the teacher that `config.teacher` describes can be trained, or imported from its weights file.

    Nothing is trained or stored. That a file's weights belong to this split is checked when they are imported.

    Args:
        config: of the student's training; without a teacher nothing is checked.
        shape: of the images.
        classes: their number.

    Raises:
        UserError: the architecture is unknown or does not support the images, or the weights file is no file, cannot be
            read, or belongs to another network.
    """
    if config.teacher.name is None:
        return
    own = recipe(config)
    if config.teacher.weights == DEFAULT_WEIGHTS:
        teacher_weights.identity_of_default(str(config.teacher.name))
    elif config.teacher.weights is not None:
        weights = teacher_weights.read(Path(config.teacher.weights))
        teacher_weights.network_with(own, shape, classes, weights, config.teacher.fit)
    else:
        with prefix_errors("teacher.name"):
            require_buildable(own.student, own.neuron, shape, classes)


class TeacherStore:
    """A folder of teachers, each in a folder of its digest: `config.yaml`, `weights.safetensors`, `metrics.json`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(
        self,
        config: TrainConfig,
        data: TrainingData,
        device: torch.device | str = "cpu",
        progress: Progress | None = None,
    ) -> Teacher:
        """Return the teacher that `config.teacher` describes, on the device; train or import it if it is not stored.

        A file lock keeps two processes from training the same teacher: the second waits. A training that was killed
        resumes from its checkpoint.

        Raises:
            UserError: the architecture is unknown or does not support the images, the training diverged, the weights
                file cannot be read or belongs to another network, or the teacher was trained on another split and
                may have seen the validation images.
            DamagedFile: a stored file is missing, or differs from what was written.
        """
        own, name = recipe(config), address(config, data)
        folder = self.folder / name
        if not folder.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            waiting = f"teacher {own.student.architecture} in another process", 0, own.train.epochs
            waits = None if progress is None else partial(progress, *waiting)
            with locked(self.folder / f".{name}.lock", waits):
                if not folder.exists():
                    unfinished = self.folder / f".{name}"
                    unfinished.mkdir(exist_ok=True)
                    if config.teacher.weights is None:
                        _train(unfinished, own, data, device, progress)
                    else:
                        _import_weights(unfinished, config, data, device, progress)
                    try:
                        os.rename(unfinished, folder)
                    except OSError:  # it was downloaded from a shared storage meanwhile
                        if not folder.exists():
                            raise
                        shutil.rmtree(unfinished)
        return _load(folder, data, device)


def _weights_identity(config: TrainConfig) -> str | None:
    """Return what identifies a teacher's weights file, None where it is trained."""
    weights = config.teacher.weights
    if weights is None:
        return None
    if weights == DEFAULT_WEIGHTS:
        return teacher_weights.identity_of_default(str(config.teacher.name))
    return _sha256(Path(weights), "teacher.weights")


def _train(
    folder: Path, config: TrainConfig, data: TrainingData, device: torch.device | str, progress: Progress | None
) -> None:
    """Train a teacher into a folder, from the checkpoint in it if there is one; on a GPU in `gpu_precision`."""
    config = with_values(config, {"train.precision": gpu_precision(device)})
    path = folder / "checkpoint.safetensors"
    name, epochs = config.student.architecture, config.train.epochs
    _check_architecture(config, data)
    last_saved = time.monotonic()
    for report in train(config, data, resume=_checkpoint(path, config, data), device=device):
        if progress is not None:
            progress(f"teacher {name}", report.epoch, epochs)
        if report.ended == "finished":
            tensors, meta = report.snapshot()
            seconds = sum(metrics["time/epoch_s"] for metrics in meta["history"])
            _write(folder, config, data, checkpoint.student_weights(tensors), seconds, device, known_split=True)
        elif report.ended is not None:
            path.unlink(missing_ok=True)
            raise UserError(
                f"teacher.lr: with {config.optimizer.lr} the training of teacher {name!r} diverged in epoch "
                f"{report.epoch} ({report.ended}); expected a smaller value"
            )
        elif time.monotonic() - last_saved > SAVE_EVERY:
            checkpoint.save(path, *report.snapshot())
            last_saved = time.monotonic()
    path.unlink(missing_ok=True)


def _check_architecture(config: TrainConfig, data: TrainingData) -> None:
    """Build the network once, because `train` would name the key of a student's architecture in its errors."""
    with prefix_errors("teacher.name"), torch.random.fork_rng([]):
        build(config.student, config.neuron, data.shape, len(data.classes))


def _checkpoint(path: Path, config: TrainConfig, data: TrainingData) -> Snapshot | None:
    """Return the checkpoint of an interrupted training; a damaged one, or one of another device, is deleted."""
    if not path.exists():
        return None
    try:
        tensors, meta = checkpoint.load(path)
    except DamagedFile:
        tensors, meta = {}, {}
    if "training" in meta and is_snapshot_of((tensors, meta), config, data):
        return tensors, meta
    path.unlink()
    return None


def _import_weights(
    folder: Path, config: TrainConfig, data: TrainingData, device: torch.device | str, progress: Progress | None
) -> None:
    """Write a teacher from a weights file, after fitting it if that is asked for."""
    own, name, what = recipe(config), str(config.teacher.name), config.teacher.fit
    default = config.teacher.weights == DEFAULT_WEIGHTS
    weights = teacher_weights.read_default(name) if default else teacher_weights.read(Path(str(config.teacher.weights)))
    if weights.split is not None and weights.split != data.fingerprint:
        raise UserError(
            f"teacher.weights: {weights.origin} was trained on split {weights.split}, expected {data.fingerprint}: the "
            "teacher may have seen the validation images"
        )
    network, seconds = teacher_weights.network_with(own, data.shape, data.classes, weights, what), 0.0
    if what != "none":

        def report(epoch: int) -> None:
            if progress is not None:
                progress(f"teacher {name}", epoch, own.train.epochs)

        seconds = teacher_fit.fit(network, what, own, data, device, report)
    _write(folder, own, data, dict(network.state_dict()), seconds, device, known_split=weights.split is not None)


def _write(
    folder: Path,
    config: TrainConfig,
    data: TrainingData,
    weights: dict[str, Tensor],
    seconds: float,
    device: torch.device | str,
    known_split: bool,
) -> None:
    network = _network(config, data.shape, len(data.classes), weights).to(device)
    measured = measure(network, data.validation, data)
    checkpoint.save(folder / "weights.safetensors", weights, {"split": data.fingerprint if known_split else None})
    metrics: dict[str, Any] = {
        "name": config.student.architecture,
        "family": family(config.student.architecture),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "val_accuracy": measured.evaluation.accuracy,
        "operations": asdict(measured.operations),
        "epochs": config.train.epochs,
        "seconds": seconds,
        "split": data.fingerprint,
        "known_split": known_split,
        "weights_sha256": _sha256(folder / "weights.safetensors", "teacher"),
    }
    write_atomically(folder / "config.yaml", to_yaml(config))
    write_atomically(folder / "metrics.json", json.dumps(metrics, indent=2) + "\n")


def _load(folder: Path, data: TrainingData, device: torch.device | str) -> Teacher:
    """Return a stored teacher.

    Raises:
        UserError: it was trained on another split.
        DamagedFile: one of its files is missing, changed or no teacher's.
    """
    metrics = _metrics(folder)
    if metrics["split"] != data.fingerprint:
        raise UserError(
            f"{folder}: this teacher was trained on split {metrics['split']}, expected {data.fingerprint}: it may "
            "have seen the validation images; delete the folder to train it again"
        )
    path = folder / "weights.safetensors"
    try:
        if sha256(path) != metrics["weights_sha256"]:
            raise DamagedFile(f"{path}: its SHA-256 differs from the one in metrics.json; {_AGAIN}")
        config = load(folder / "config.yaml")
        network = _network(config, data.shape, len(data.classes), checkpoint.load(path)[0]).to(device)
    except (OSError, UserError) as error:
        raise DamagedFile(f"{folder}: the teacher cannot be read: {error}; {_AGAIN}") from error
    return Teacher(
        config=config,
        network=network,
        digest=folder.name,
        weights_digest=metrics["weights_sha256"][:16],
        family=metrics["family"],
        parameters=metrics["parameters"],
        val_accuracy=metrics["val_accuracy"],
        operations=Operations(**metrics["operations"]),
        seconds=metrics["seconds"],
        known_split=metrics["known_split"],
        precision=gpu_precision(device),
    )


def _metrics(folder: Path) -> dict[str, Any]:
    """Return the metrics of a stored teacher, after their types are checked."""
    path = folder / "metrics.json"
    try:
        metrics = json.loads(path.read_text(encoding="utf-8"))
        types = {"split": str, "weights_sha256": str, "family": str, "parameters": int, "known_split": bool}
        numbers = dict.fromkeys(("val_accuracy", "seconds"), (int, float))
        for key, expected in (types | numbers).items():
            if not isinstance(metrics[key], expected):
                raise ValueError(f"{key}: {str(metrics[key])[:100]}")
        Operations(**metrics["operations"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedFile(f"{path}: not the metrics of a teacher: {_line(error)}; {_AGAIN}") from error
    return dict(metrics)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _network(config: TrainConfig, shape: ImageShape, classes: int, weights: dict[str, Tensor]) -> Network:
    """Return the frozen network with these weights, on the CPU."""
    try:
        with prefix_errors("teacher.name"):
            return build_trained(config, shape, classes, weights)
    except RuntimeError as error:
        name = config.student.architecture
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"teacher.weights: the tensors do not match teacher.name {name!r}: {reason}") from error


def _sha256(path: Path, key: str) -> str:
    try:
        return sha256(path)
    except OSError as error:
        raise UserError(f"{key}: {path} cannot be read: {error.strerror}") from error
