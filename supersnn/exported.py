"""An export folder: a trained student that proves itself. Torch, safetensors, pydantic and PyYAML suffice to load it.

config.yaml           the training, complete
student.safetensors   the weights
preprocessing.json    how pixels become the network's input, and what its classes are called
metrics.json          what was measured, and the SHA-256 of every other file and of these figures themselves
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from supersnn import checkpoint
from supersnn.augment import normalise
from supersnn.config import TrainConfig
from supersnn.config import load as load_config
from supersnn.config_model import to_yaml
from supersnn.errors import UserError, prefix_errors
from supersnn.files import DamagedFile, sha256
from supersnn.networks.base import ImageShape, Network
from supersnn.networks.build import build_trained

if TYPE_CHECKING:
    from supersnn.data import TrainingData

LAYOUT = "BCHW uint8"
METRICS = "metrics.json"
LEDGER = "test-ledger.jsonl"
"""Each opening of the test images by an export's owner: the one file that comes into the folder later."""


class DamagedExport(DamagedFile):
    """An export folder is not what was exported: a file is missing, changed or unreadable."""


@dataclass(frozen=True)
class Preprocessing:
    """How pixels become the network's input: (pixels / 255 - mean) / std by channel; and the names of the classes."""

    channels: int
    side: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: tuple[str, ...]
    layout: str = LAYOUT

    @classmethod
    def of(cls, data: "TrainingData") -> "Preprocessing":
        """Return that of a training's images."""
        return cls(data.shape.channels, data.shape.side, data.mean, data.std, data.classes)

    @classmethod
    def read(cls, path: Path) -> "Preprocessing":
        """Return what a file holds.

        Raises:
            ValueError, TypeError: it holds something else.
        """
        plain: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        lists: dict[str, Any] = {key: tuple(value) for key, value in plain.items() if isinstance(value, list)}
        return cls(**(plain | lists))


@dataclass(frozen=True, eq=False)
class Student:
    """A trained student, frozen."""

    module: Network
    config: TrainConfig
    preprocessing: Preprocessing
    metrics: dict[str, Any]

    def predict(self, images: Tensor) -> Tensor:
        """Return the logits [B, K], their mean over time, of images uint8 [B, C, H, W].

        Raises:
            UserError: the images have another type or shape.
        """
        expected = (self.preprocessing.channels, self.preprocessing.side, self.preprocessing.side)
        if images.dtype != torch.uint8 or images.dim() != 4 or tuple(images.shape[1:]) != expected:
            raise UserError(
                f"images: {str(images.dtype).removeprefix('torch.')} {list(images.shape)}, expected uint8 "
                f"[B, {', '.join(map(str, expected))}]"
            )
        device = next(self.module.parameters()).device
        with torch.no_grad():
            inputs = normalise(images.to(device), self.preprocessing.mean, self.preprocessing.std)
            logits: Tensor = self.module(inputs).logits.mean(0)
        return logits

    def classify(self, path: Path) -> dict[str, str | float]:
        """Return the likeliest `class` of an image file, and its `probability`, the softmax of the logits.

        The file's middle square is taken, in grey or RGB as the network needs it, and brought to its side.

        Raises:
            UserError: the file is no image that can be read.
        """
        import numpy as np
        from PIL import Image, ImageOps

        side = self.preprocessing.side
        try:
            with Image.open(path) as image:
                colours = image.convert("L" if self.preprocessing.channels == 1 else "RGB")
        except OSError as error:
            raise UserError(f"{path}: not a readable image: {error}") from error
        pixels = torch.from_numpy(np.array(ImageOps.fit(colours, (side, side)))).view(1, side, side, -1)
        probabilities = self.predict(pixels.permute(0, 3, 1, 2)).softmax(1)[0]
        best = int(probabilities.argmax())
        return {"class": self.preprocessing.classes[best], "probability": float(probabilities[best])}


def write(
    folder: Path,
    config: TrainConfig,
    weights: Mapping[str, Tensor],
    preprocessing: Preprocessing,
    metrics: Mapping[str, Any],
    attach: Callable[[Path], Mapping[str, Any]] | None = None,
) -> None:
    """Write an export folder; one that is there already is replaced when the new one is whole.

    Args:
        folder: its name.
        config: the training, with the seed that the weights are of.
        weights: the network's state dict.
        preprocessing: of the images it was trained on.
        metrics: JSON-able; anything but the keys `sha256` and `metrics_sha256`.
        attach: called with the unfinished folder, to put further files beside these four; what it returns joins the
            metrics.

    Raises:
        UserError: the folder holds something else.
    """
    ensure_replaceable(folder)
    unfinished = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        (unfinished / "config.yaml").write_text(to_yaml(config), encoding="utf-8")
        checkpoint.save(unfinished / "student.safetensors", weights, {})
        (unfinished / "preprocessing.json").write_text(_json(asdict(preprocessing)), encoding="utf-8")
        told = {**metrics, **(attach(unfinished) if attach is not None else {}), "sha256": _sums(unfinished)}
        (unfinished / METRICS).write_text(_json({**told, "metrics_sha256": _own_sum(told)}), encoding="utf-8")
        _put_in_place(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def ensure_replaceable(folder: Path) -> None:
    """Refuse to replace what is no export.

    Raises:
        UserError: the folder holds something else, or is a file.
    """
    if folder.is_dir() and ((folder / METRICS).is_file() or not any(folder.iterdir())):
        return
    if folder.exists():
        raise UserError(f"{folder}: there is something else than an export; expected a new, empty or export folder")


def copy(folder: Path, to: Path) -> None:
    """Write an export folder again in another place, the ledger left out; one there is replaced when it is whole."""
    unfinished = to.with_name(f".{to.name}.{os.getpid()}")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        shutil.copytree(folder, unfinished, ignore=shutil.ignore_patterns(LEDGER))
        _put_in_place(unfinished, to)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def load(folder: Path, device: torch.device | str = "cpu") -> Student:
    """Return the student of an export folder, after every file is found to be what was exported.

    Raises:
        UserError: there is no export folder of this name.
        DamagedExport: one of its files is missing, changed or unreadable.
    """
    if not (folder / METRICS).is_file():
        raise UserError(f"{folder}: not an export folder: it holds no {METRICS}")
    metrics = _checked(folder)
    try:
        config = load_config(folder / "config.yaml")
        preprocessing = Preprocessing.read(folder / "preprocessing.json")
        module = network(config, preprocessing, checkpoint.load(folder / "student.safetensors")[0])
    except (UserError, DamagedFile, RuntimeError, TypeError, ValueError) as error:
        raise DamagedExport(f"{folder}: its files do not make a student: {' '.join(str(error).split())}") from error
    return Student(module.to(device), config, preprocessing, metrics)


def network(config: TrainConfig, preprocessing: Preprocessing, weights: Mapping[str, Tensor]) -> Network:
    """Return the frozen network of a training with stored weights; see `networks.build.build_trained`."""
    shape = ImageShape(preprocessing.channels, preprocessing.side)
    with prefix_errors("student.architecture"):
        return build_trained(config, shape, len(preprocessing.classes), weights)


def added(folder: Path) -> list[str]:
    """Return the files in an export folder that are no part of it, the ledger left out."""
    metrics: dict[str, Any] = json.loads((folder / METRICS).read_text(encoding="utf-8"))
    return sorted(_sums(folder).keys() - metrics["sha256"].keys() - {LEDGER})


def _checked(folder: Path) -> dict[str, Any]:
    """Return the metrics of a folder, which have the sum they name, as has every other file."""
    try:
        metrics: dict[str, Any] = json.loads((folder / METRICS).read_text(encoding="utf-8"))
        expected = dict(metrics["sha256"])
        own = metrics["metrics_sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedExport(f"{folder / METRICS}: not the metrics of an export") from error
    if _own_sum(metrics) != own:
        raise DamagedExport(f"{folder / METRICS}: not the figures that were exported (their SHA-256 differs)")
    found = _sums(folder)
    for name in ("config.yaml", "student.safetensors", "preprocessing.json", *expected):
        if name not in expected or found.get(name) != expected[name]:
            state = "missing" if name not in found else "not the file that was exported (its SHA-256 differs)"
            raise DamagedExport(f"{folder / name}: {state}")
    return metrics


def _own_sum(metrics: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the metrics but this sum itself, as JSON in one canonical form."""
    plain = json.loads(json.dumps({key: value for key, value in metrics.items() if key != "metrics_sha256"}))
    return hashlib.sha256(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _sums(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file of a folder but its metrics, by its path within."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / METRICS)
    return {path.relative_to(folder).as_posix(): sha256(path) for path in files}


def _put_in_place(unfinished: Path, folder: Path) -> None:
    if folder.exists():
        aside = folder.with_name(f".{folder.name}.{os.getpid()}.before")
        os.rename(folder, aside)
        os.rename(unfinished, folder)
        shutil.rmtree(aside)
    else:
        os.rename(unfinished, folder)


def _json(data: Mapping[str, Any]) -> str:
    return json.dumps(data, indent=2, allow_nan=False) + "\n"
