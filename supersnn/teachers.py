"""Teachers: artificial networks, trained once by their own recipe or brought along, and kept in a store."""

import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from torch import Tensor

from supersnn import checkpoint
from supersnn.config import LoopConfig, NeuronConfig, OptimizerConfig, StudentConfig, TeacherConfig, TrainConfig, load
from supersnn.config_model import digest, to_yaml
from supersnn.data import TrainingData
from supersnn.errors import UserError
from supersnn.evaluation import evaluate
from supersnn.files import DamagedFile, sha256, write_atomically
from supersnn.networks.base import Network
from supersnn.networks.build import build, family
from supersnn.operations import Operations, count
from supersnn.training import train

Progress = Callable[[str, int, int], None]
"""Told of what is done now, how many parts of it are done, and of how many."""

BATCH_SIZE = 64  # of every teacher's training
SAVE_EVERY = 30.0  # seconds that a killed teacher's training loses at most


@dataclass(frozen=True, eq=False)
class Teacher:
    """A frozen network and what is known of it.

    `config` is its own training; `digest` addresses that training on this split, `weights_digest` its result.
    `network` is in evaluation mode and learns nothing. `seconds` is what its training took. With `known_split`
    it has certainly not seen the validation images; nobody knows what a network brought along has seen.
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


def recipe(config: TrainConfig) -> TrainConfig:
    """Return the training of the teacher itself: that of the same architecture with ReLU, on the same split.

    It takes from `config` its `dataset`, its `teacher` section and `train.threads`, and nothing that a search
    changes from trial to trial, so that all trials of a sweep share a teacher. Its batch size and its precision
    are constants.
    """
    teacher = config.teacher
    if teacher.name is None:
        raise ValueError("a training without teacher.name has no teacher's recipe")
    return TrainConfig(
        dataset=config.dataset,
        student=StudentConfig(architecture=teacher.name, time_steps=1),
        neuron=NeuronConfig(kind="relu"),
        teacher=TeacherConfig(views=teacher.views),
        optimizer=OptimizerConfig(lr=teacher.lr, weight_decay=teacher.weight_decay),
        train=LoopConfig(epochs=teacher.epochs, batch_size=BATCH_SIZE, threads=config.train.threads),
        seed=teacher.seed,
    )


def address(config: TrainConfig, data: TrainingData) -> str:
    """Return the digest of the teacher that `config.teacher` describes: the name of its folder in a store.

    Raises:
        UserError: its weights file cannot be read.
    """
    weights = _brought(config)
    return digest(recipe(config), data.fingerprint, weights and _sha256(weights, "teacher.weights"))


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
        """Return the teacher that `config.teacher` describes, on the device: found, or trained (or taken in) now.

        Two processes never train the same teacher: the second waits. A training that was killed goes on.

        Raises:
            UserError: its training diverged, its weights file does not fit or cannot be read, or it was trained
                on another split, so that it may have seen the validation images.
            DamagedFile: the stored teacher is not what was stored.
        """
        own, weights, mark = recipe(config), _brought(config), address(config, data)
        home = self.folder / mark
        if not home.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / f".{mark}.lock"):
                if not home.exists():
                    unfinished = self.folder / f".{mark}"
                    unfinished.mkdir(exist_ok=True)
                    if weights is None:
                        _train(unfinished, own, data, device, progress)
                    else:
                        _take_in(unfinished, own, data, weights)
                    try:
                        os.rename(unfinished, home)
                    except OSError:  # it was brought here from elsewhere meanwhile
                        if not home.exists():
                            raise
                        shutil.rmtree(unfinished)
        return _found(home, data, device)


def _brought(config: TrainConfig) -> Path | None:
    """The file of a network that the user brings along, if that is to be the teacher."""
    return None if config.teacher.weights is None else Path(config.teacher.weights)


def _train(
    folder: Path, config: TrainConfig, data: TrainingData, device: torch.device | str, progress: Progress | None
) -> None:
    """Train a teacher into a folder, from the last whole epoch that lies there."""
    saved = folder / "checkpoint.safetensors"
    name, epochs = config.student.architecture, config.train.epochs
    resume = None
    if saved.exists():
        try:
            resume = checkpoint.load(saved)
        except DamagedFile:
            saved.unlink()
    last_saved = time.monotonic()
    for report in train(config, data, resume=resume, device=device):
        if progress is not None:
            progress(f"teacher {name}", report.epoch, epochs)
        if report.ended == "finished":
            tensors, meta = report.snapshot()
            seconds = sum(metrics["time/epoch_s"] for metrics in meta["history"])
            _write(folder, config, data, checkpoint.student_weights(tensors), seconds, known_split=True)
        elif report.ended is not None:
            saved.unlink(missing_ok=True)
            raise UserError(
                f"teacher.lr: {config.optimizer.lr} makes the teacher {name!r} diverge in epoch {report.epoch} "
                f"({report.ended}); expected a smaller one"
            )
        elif time.monotonic() - last_saved > SAVE_EVERY:
            checkpoint.save(saved, *report.snapshot())
            last_saved = time.monotonic()
    saved.unlink(missing_ok=True)


def _take_in(folder: Path, config: TrainConfig, data: TrainingData, path: Path) -> None:
    """Copy a network that the user brought along into a folder."""
    weights, split = _read_weights(path)
    if split is not None and split != data.fingerprint:
        raise UserError(
            f"teacher.weights: {path} was trained on split {split}, this training is validated on split "
            f"{data.fingerprint}: the teacher may have seen the validation images"
        )
    _write(folder, config, data, weights, seconds=0.0, known_split=split is not None)


def _read_weights(path: Path) -> tuple[dict[str, Tensor], str | None]:
    """Return a network's tensors, and the fingerprint of the split it was trained on where the file tells it."""
    try:
        if path.suffix == ".safetensors":
            tensors, meta = checkpoint.load(path)
            return checkpoint.student_weights(tensors) or tensors, meta.get("split")
        return dict(torch.load(path, map_location="cpu", weights_only=True)), None
    except Exception as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"teacher.weights: {path} cannot be read as a safetensors file or a torch state dict: {first}"
        ) from error


def _write(
    folder: Path,
    config: TrainConfig,
    data: TrainingData,
    weights: dict[str, Tensor],
    seconds: float,
    known_split: bool,
) -> None:
    network = _network(config, data, weights)
    seen = evaluate(network, data.validation, data.mean, data.std)
    checkpoint.save(folder / "weights.safetensors", weights, {"split": data.fingerprint if known_split else None})
    metrics: dict[str, Any] = {
        "name": config.student.architecture,
        "family": family(config.student.architecture),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "val_accuracy": seen.accuracy,
        "operations": asdict(count(network, data.shape, seen.density)),
        "epochs": config.train.epochs,
        "seconds": seconds,
        "split": data.fingerprint,
        "known_split": known_split,
        "weights_sha256": _sha256(folder / "weights.safetensors", "teacher"),
    }
    write_atomically(folder / "config.yaml", to_yaml(config))
    write_atomically(folder / "metrics.json", json.dumps(metrics, indent=2) + "\n")


def _found(home: Path, data: TrainingData, device: torch.device | str) -> Teacher:
    config = load(home / "config.yaml")
    metrics = json.loads((home / "metrics.json").read_text())
    if metrics["split"] != data.fingerprint:
        raise UserError(
            f"{home}: this teacher was trained on split {metrics['split']}, expected {data.fingerprint}: it may "
            "have seen the validation images; remove the folder to train it again"
        )
    path = home / "weights.safetensors"
    if _sha256(path, "teacher") != metrics["weights_sha256"]:
        raise DamagedFile(f"{path}: not the weights that metrics.json describes")
    network = _network(config, data, checkpoint.load(path)[0]).to(device)
    return Teacher(
        config=config,
        network=network,
        digest=home.name,
        weights_digest=metrics["weights_sha256"][:16],
        family=metrics["family"],
        parameters=metrics["parameters"],
        val_accuracy=metrics["val_accuracy"],
        operations=Operations(**metrics["operations"]),
        seconds=metrics["seconds"],
        known_split=metrics["known_split"],
    )


def _network(config: TrainConfig, data: TrainingData, weights: dict[str, Tensor]) -> Network:
    """Return the frozen network with these weights, on the CPU."""
    with torch.random.fork_rng([]):
        network = build(config.student, config.neuron, data.shape, len(data.classes))
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        name = config.student.architecture
        first = " ".join(str(error).split())[:300]
        raise UserError(f"teacher.weights: these do not fit teacher.name {name!r}: {first}") from error
    return network.eval().requires_grad_(False)


def _sha256(path: Path, key: str) -> str:
    try:
        return sha256(path)
    except OSError as error:
        raise UserError(f"{key}: {path} cannot be read: {error.strerror}") from error
