"""Evaluation of an export folder: verified against its own figures, or tested on another data set."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from supersnn import export_code, exported
from supersnn.config import DatasetConfig
from supersnn.config_model import NO_ARGUMENTS
from supersnn.data import Images, training_data
from supersnn.errors import UserError
from supersnn.evaluation import Evaluation, evaluate
from supersnn.export_formats import int8_format
from supersnn.export_formats.graph import Graph, UnsupportedLayerError
from supersnn.export_formats.graph_cost import measured
from supersnn.exported import LEDGER, METRICS, DamagedExport, Student
from supersnn.files import DamagedFile, printable
from supersnn.test_set import open_test


@dataclass(frozen=True)
class Comparison:
    """A recorded accuracy and the one of a new evaluation, as fractions."""

    figure: str
    recorded: float
    found: float
    tolerance: float

    @property
    def agrees(self) -> bool:
        """Whether the two differ by no more than the tolerance."""
        return abs(self.found - self.recorded) <= self.tolerance + 1e-12


def check(folder: Path, device: torch.device | str = "cpu", trust: bool = False) -> list[Comparison]:
    """Load the student, evaluate it again, and return the comparisons with the recorded accuracies.

    The test images are evaluated if the export has a test accuracy; the access is first recorded in the folder's
    ledger. torch's number of threads is set to the training's, because results depend on it bit by bit. `trust` is that
    of `exported.load`.

    Raises:
        UserError: the folder does not exist or is not writable, or the data set cannot be read or downloaded, or has
            other classes or images of another shape by now.
        DamagedExport: a file is missing, changed, unreadable, or was added, or a recorded accuracy makes no sense.
    """
    if not folder.is_dir():
        raise UserError(f"{printable(folder)}: no such folder")
    if not (folder / METRICS).is_file():
        raise DamagedExport(f"{folder / METRICS}: missing")
    student = exported.load(folder, device, trust)
    if added := exported.added(folder):
        raise DamagedExport(f"{folder / added[0]}: not part of the export")
    dataset = student.config.dataset
    figures = [figure for figure in ("val_accuracy", "test_accuracy") if _is_recorded(student, figure, folder)]
    export_code.make_importable(folder, student.metrics, [dataset.name], trust)
    torch.set_num_threads(student.config.train.threads)
    data = training_data(dataset, device)
    student.preprocessing.kind.match(dataset.name, data.classes, tuple(data.validation.pixels.shape[1:]))
    comparisons = [_compared(student, "val_accuracy", data.validation)]
    integers = _integers(student, folder)
    if integers is not None:
        comparisons.append(_compared_integers(student, integers, "val_accuracy", data.validation))
    if "test_accuracy" in figures:
        test = _test_images(student, dataset, folder, "check", device)
        comparisons.append(_compared(student, "test_accuracy", test))
        if integers is not None and student.metrics["int8"].get("test_accuracy") is not None:
            comparisons.append(_compared_integers(student, integers, "test_accuracy", test))
    return comparisons


def evaluate_on(
    student: Student, folder: Path, data: str, device: torch.device | str = "cpu", trust: bool = False
) -> Evaluation:
    """Evaluate an exported student on the test images of a data set, whose classes are matched by name.

    Args:
        student: on the device.
        folder: its export folder; the access is recorded in its ledger before the images are evaluated.
        data: name of the data set, as `dataset.name`.
        device: of the student.
        trust: import the data set from the export's own code, if that is its own one.

    Returns:
        The evaluation; `per_class` is in the order of the export's classes.

    Raises:
        UserError: the data set cannot be read, has other class names, another number of channels or another side, or
            the ledger cannot be written; nothing is then recorded in it.
    """
    dataset = student.config.dataset
    if data == dataset.name:
        export_code.make_importable(folder, student.metrics, [data], trust)
    else:
        dataset = dataset.model_copy(update={"name": data, "arguments": NO_ARGUMENTS})
    test = _test_images(student, dataset, folder, "evaluate", device)
    return evaluate(student.module, test, student.preprocessing.mean, student.preprocessing.std)


def tolerance(images: int) -> float:
    """Return the tolerance of an accuracy on another machine: a tenth of a percentage point, or one image."""
    return max(0.001, 1 / images)


def _test_images(
    student: Student, dataset: DatasetConfig, folder: Path, purpose: str, device: torch.device | str
) -> Images:
    purpose = f"{purpose} {printable(folder.name)}"
    try:
        return open_test(dataset, folder / LEDGER, purpose, device, of=student.preprocessing.kind)
    except OSError as error:
        raise UserError(f"{folder / LEDGER}: cannot be written, so the test images are not read: {error}") from error


def _is_recorded(student: Student, figure: str, folder: Path) -> bool:
    """Return whether a figure is recorded, after the values that it is compared by are found to make sense."""
    value, allowed = student.metrics.get(figure), student.metrics.get("tolerance", 0.0)
    for key, found in ((figure, value), ("tolerance", allowed)):
        absent = found is None and key == "test_accuracy"
        if not absent and not _is_fraction(found):
            raise DamagedExport(f"{folder / METRICS}: {key}: expected a number from 0 to 1, found {str(found)[:100]}")
    return value is not None


def _is_fraction(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value) and 0 <= value <= 1


def _integers(student: Student, folder: Path) -> Graph | None:
    """Return the graph with the export's weights of 8 bits, None where it has none.

    Raises:
        DamagedExport: they are not those of this student, or their accuracies make no sense.
    """
    recorded = student.metrics.get("int8") or {}
    if "file" not in recorded:
        return None
    for key in ("val_accuracy", "test_accuracy"):
        value = recorded.get(key)
        if not _is_fraction(value) and (value is not None or key == "val_accuracy"):
            found = str(value)[:100]
            raise DamagedExport(f"{folder / METRICS}: int8.{key}: expected a number from 0 to 1, found {found}")
    try:
        return int8_format.read(student.module, student.preprocessing.kind.shape, folder / int8_format.FILE)
    except (DamagedFile, UnsupportedLayerError) as error:
        raise DamagedExport(f"{folder / int8_format.FILE}: cannot be read: {error}") from error


def _compared_integers(student: Student, graph: Graph, figure: str, images: Images) -> Comparison:
    found = measured(graph, images, student.preprocessing.mean, student.preprocessing.std)
    allowed = float(student.metrics.get("tolerance", tolerance(len(images))))
    return Comparison(f"int8_{figure}", float(student.metrics["int8"][figure]), found.accuracy, allowed)


def _compared(student: Student, figure: str, images: Images) -> Comparison:
    measured = evaluate(student.module, images, student.preprocessing.mean, student.preprocessing.std)
    allowed = float(student.metrics.get("tolerance", tolerance(len(images))))
    return Comparison(figure, float(student.metrics[figure]), measured.accuracy, allowed)
