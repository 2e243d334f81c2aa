"""Export folders: a trained student with its configuration, metrics and checksums.

Torch, safetensors, pydantic and PyYAML suffice to load one.

config.yaml           the complete training configuration
student.safetensors   the weights
preprocessing.json    normalisation of the images, and the names of the classes
metrics.json          the metrics, and the SHA-256 of every other file and of the metrics themselves
"""

import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from supersnn import checkpoint, export_code
from supersnn.augment import normalise
from supersnn.config import ResizeConfig, TrainConfig
from supersnn.config import load as load_config
from supersnn.config_model import to_yaml
from supersnn.errors import UserError, prefix_errors
from supersnn.files import DamagedFile, printable, sha256
from supersnn.image_kind import ImageKind
from supersnn.networks.base import ImageShape, Network
from supersnn.networks.build import build_trained

if TYPE_CHECKING:
    from supersnn.data import TrainingData

LAYOUT = "BCHW uint8"
METRICS = "metrics.json"
LEDGER = "test-ledger.jsonl"
"""Log of accesses to the test images: the only file that is added to the folder after the export."""


class DamagedExport(DamagedFile):
    """A file of an export folder is missing, changed or unreadable."""


@dataclass(frozen=True)
class Preprocessing:
    """Normalisation of images, (pixels / 255 - mean) / std by channel, and the names of the classes."""

    channels: int
    side: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: tuple[str, ...]
    layout: str = LAYOUT

    def __post_init__(self) -> None:
        """Check all values.

        Raises:
            ValueError: the text names the key, its value, and what was expected.
        """
        for key in ("channels", "side"):
            _require(type(getattr(self, key)) is int and getattr(self, key) > 0, self, key, "a positive integer")
        for key in ("mean", "std"):
            values = getattr(self, key)
            _require(isinstance(values, tuple) and all(map(_is_finite, values)), self, key, "finite numbers")
            _require(len(values) == self.channels, self, key, f"{self.channels} numbers, one for each channel")
        _require(all(value > 0 for value in self.std), self, "std", "positive numbers")
        named = isinstance(self.classes, tuple) and all(isinstance(name, str) and name for name in self.classes)
        _require(named and len(self.classes) > 1, self, "classes", "two or more names")
        _require(len(set(self.classes)) == len(self.classes), self, "classes", "names that differ")
        _require(self.layout == LAYOUT, self, "layout", repr(LAYOUT))

    @classmethod
    def of(cls, data: "TrainingData") -> "Preprocessing":
        """Return the preprocessing of a training's images."""
        return cls(data.shape.channels, data.shape.side, data.mean, data.std, data.classes)

    @property
    def kind(self) -> ImageKind:
        """The images that a student with this preprocessing classifies."""
        return ImageKind(ImageShape(self.channels, self.side), self.classes)

    @classmethod
    def read(cls, path: Path) -> "Preprocessing":
        """Return the preprocessing in a file.

        Raises:
            ValueError: the file has another content.
        """
        plain: Any = json.loads(path.read_text(encoding="utf-8"))
        known = {field.name for field in fields(cls)}
        if not isinstance(plain, dict) or not known - {"layout"} <= plain.keys() <= known:
            raise ValueError(f"{path.name}: expected a mapping with the keys {', '.join(sorted(known))}")
        lists: dict[str, Any] = {key: tuple(value) for key, value in plain.items() if isinstance(value, list)}
        return cls(**(plain | lists))


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _require(right: bool, about: Preprocessing, key: str, expected: str) -> None:
    if not right:
        raise ValueError(f"preprocessing.json: {key}: expected {expected}, found {str(getattr(about, key))[:100]}")


@dataclass(frozen=True, eq=False)
class Student:
    """A trained student, frozen."""

    module: Network
    config: TrainConfig
    preprocessing: Preprocessing
    metrics: dict[str, Any]

    def __repr__(self) -> str:
        """Return the architecture, the data set and the accuracy."""
        accuracy = self.metrics.get("test_accuracy", None)
        part, value = ("test", accuracy) if accuracy is not None else ("validation", self.metrics.get("val_accuracy"))
        measured = "" if value is None else f", {part} accuracy {value:.4f}"
        return f"Student({self.config.student.architecture} on {self.config.dataset.name}{measured})"

    def predict(self, images: Tensor) -> Tensor:
        """Return the logits [B, K], averaged over time, for images uint8 [B, C, H, W].

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
        """Return the predicted `class` of an image file, and its `probability` by the softmax of the logits.

        The image is converted by the rules of `supersnn.sources.image_files`, as training images are, then resized as
        `dataset.resize` says (by default its central square), and converted to grey or RGB as the network requires.

        Raises:
            UserError: the file is not a readable image.
        """
        import numpy as np

        from supersnn.sources.image_files import read_image, resized

        side = self.preprocessing.side
        converted = read_image(path).convert("L" if self.preprocessing.channels == 1 else "RGB")
        fitted = resized(path, converted, self.config.dataset.resize or ResizeConfig(side=side))
        pixels = torch.from_numpy(np.array(fitted)).view(1, side, side, -1)
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
    """Write an export folder, atomically; an existing export is replaced when the new one is complete.

    Args:
        folder: the export folder.
        config: the training, with the seed of these weights.
        weights: the network's state dict.
        preprocessing: of the images it was trained on.
        metrics: JSON-able, without the keys `sha256` and `metrics_sha256`.
        attach: called with the unfinished folder to add further files; returns further metrics.

    Raises:
        UserError: the folder has other content.
    """
    ensure_replaceable(folder)
    with _replacing(folder) as unfinished:
        unfinished.mkdir(parents=True)
        (unfinished / "config.yaml").write_text(to_yaml(config), encoding="utf-8")
        checkpoint.save(unfinished / "student.safetensors", weights, {})
        (unfinished / "preprocessing.json").write_text(_json(asdict(preprocessing)), encoding="utf-8")
        complete = {**metrics, **(attach(unfinished) if attach is not None else {}), "sha256": _sums(unfinished)}
        (unfinished / METRICS).write_text(_json({**complete, "metrics_sha256": _own_sum(complete)}), encoding="utf-8")


def ensure_replaceable(folder: Path) -> None:
    """Check that an export can be written at a path: it is free, an empty folder or an export folder.

    Raises:
        UserError: it is a file or a folder with other content, or its place cannot be written to.
    """
    existing = folder.absolute().parent
    while not os.path.lexists(existing):
        existing = existing.parent
    if len(os.fsencode(folder.name)) > 200 or not os.path.isdir(existing) or not os.access(existing, os.W_OK):
        reason = "the name has more than 200 bytes" if len(os.fsencode(folder.name)) > 200 else ""
        raise UserError(f"{printable(folder)}: cannot be written: {reason or f'{existing} is no writable folder'}")
    if folder.is_dir() and ((folder / METRICS).is_file() or not any(folder.iterdir())):
        return
    if folder.exists():
        raise UserError(
            f"{folder}: exists and is not an export folder; expected a new path, an empty folder or an export folder"
        )


def copy(folder: Path, to: Path) -> None:
    """Copy an export folder without its ledger, atomically; an existing export is replaced."""
    with _replacing(to) as unfinished:
        shutil.copytree(folder, unfinished, ignore=shutil.ignore_patterns(LEDGER))


def load(folder: Path, device: torch.device | str = "cpu", trust: bool = False) -> Student:
    """Return the student in an export folder, after its checksums are verified.

    Args:
        folder: the export folder.
        device: of the student.
        trust: import code of the export's own, if its network or its neurons are such code (`supersnn.export_code`).

    Raises:
        UntrustedCode: they are, and `trust` is false.
        UserError: the folder is no export folder, or needs a distribution that is not installed.
        DamagedExport: one of its files is missing, changed or unreadable.
    """
    if not os.path.isfile(folder / METRICS):
        raise UserError(f"{printable(folder)}: not an export folder: it has no {METRICS}")
    try:
        metrics = _verified_metrics(folder)
        config = load_config(folder / "config.yaml")
        preprocessing = Preprocessing.read(folder / "preprocessing.json")
    except DamagedExport:
        raise
    except (OSError, UserError, RuntimeError, ArithmeticError, MemoryError, ValueError) as error:
        raise _unreadable(folder, error) from error
    needed = (config.student.architecture, config.neuron.kind)
    export_code.make_importable(folder, metrics, needed, trust)
    try:
        module = network(config, preprocessing, checkpoint.load(folder / "student.safetensors")[0])
    except (OSError, UserError, DamagedFile, RuntimeError, ArithmeticError, MemoryError, ValueError) as error:
        raise _unreadable(folder, error) from error
    return Student(module.to(device), config, preprocessing, metrics)


def _unreadable(folder: Path, error: Exception) -> DamagedExport:
    if isinstance(error, OSError):
        return DamagedExport(f"{folder}: cannot be read: {error}")
    return DamagedExport(f"{folder}: the student cannot be loaded: {' '.join(str(error).split())[:400]}")


def network(config: TrainConfig, preprocessing: Preprocessing, weights: Mapping[str, Tensor]) -> Network:
    """Return the frozen network of a training with stored weights; see `networks.build.build_trained`."""
    shape = ImageShape(preprocessing.channels, preprocessing.side)
    with prefix_errors("student.architecture"):
        return build_trained(config, shape, len(preprocessing.classes), weights)


def added(folder: Path) -> list[str]:
    """Return the files that were added to an export folder, except the ledger."""
    metrics: dict[str, Any] = json.loads((folder / METRICS).read_text(encoding="utf-8"))
    return sorted(_sums(folder).keys() - metrics["sha256"].keys() - {LEDGER})


def _verified_metrics(folder: Path) -> dict[str, Any]:
    """Return the metrics of a folder, after its checksums are verified."""
    try:
        metrics: dict[str, Any] = json.loads((folder / METRICS).read_text(encoding="utf-8"))
        expected = {**metrics["sha256"]}
        own = metrics["metrics_sha256"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedExport(f"{folder / METRICS}: not the metrics of an export") from error
    if _own_sum(metrics) != own:
        raise DamagedExport(f"{folder / METRICS}: not the metrics that were exported (their SHA-256 differs)")
    sums = _sums(folder)
    for name in ("config.yaml", "student.safetensors", "preprocessing.json", *expected):
        if name not in expected or sums.get(name) != expected[name]:
            state = "missing" if name not in sums else "not the file that was exported (its SHA-256 differs)"
            raise DamagedExport(f"{folder / name}: {state}")
    return metrics


def _own_sum(metrics: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the metrics without `metrics_sha256`, as canonical JSON."""
    plain = json.loads(json.dumps({key: value for key, value in metrics.items() if key != "metrics_sha256"}))
    return hashlib.sha256(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _sums(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file of a folder except its metrics, by relative path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / METRICS)
    return {path.relative_to(folder).as_posix(): sha256(path) for path in files}


@contextmanager
def _replacing(folder: Path) -> Iterator[Path]:
    """Yield a temporary path to create a folder at, which then replaces `folder` unless the block raises an error."""
    unfinished = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        yield unfinished
        if folder.exists():
            previous = folder.with_name(f".{folder.name}.{os.getpid()}.before")
            os.rename(folder, previous)
            os.rename(unfinished, folder)
            shutil.rmtree(previous)
        else:
            os.rename(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _json(data: Mapping[str, Any]) -> str:
    return json.dumps(data, indent=2, allow_nan=False) + "\n"
