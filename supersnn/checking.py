"""Verification of an export folder: checksums, and accuracies evaluated again."""

from dataclasses import dataclass
from pathlib import Path

import torch

from supersnn import exported
from supersnn.data import Images, training_data
from supersnn.errors import UserError
from supersnn.evaluation import evaluate
from supersnn.exported import LEDGER, METRICS, DamagedExport, Student
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


def check(folder: Path, device: torch.device | str = "cpu") -> list[Comparison]:
    """Load the student, evaluate it again, and return the comparisons with the recorded accuracies.

    The test images are evaluated if the export has a test accuracy; the access is first recorded in the folder's
    ledger. torch's number of threads is set to the training's, because results depend on it bit by bit.

    Raises:
        UserError: the folder does not exist or is not writable, or the data set cannot be read or downloaded.
        DamagedExport: a file is missing, changed, unreadable, or was added.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    if not (folder / METRICS).is_file():
        raise DamagedExport(f"{folder / METRICS}: missing")
    student = exported.load(folder, device)
    if added := exported.added(folder):
        raise DamagedExport(f"{folder / added[0]}: not part of the export")
    dataset = student.config.dataset
    torch.set_num_threads(student.config.train.threads)
    comparisons = [_compared(student, "val_accuracy", training_data(dataset, device).validation)]
    if student.metrics.get("test_accuracy") is not None:
        try:
            test = open_test(dataset, folder / LEDGER, f"check {folder.name}", device)
        except OSError as error:
            raise UserError(
                f"{folder / LEDGER}: cannot be written, so the test images are not read: {error}"
            ) from error
        comparisons.append(_compared(student, "test_accuracy", test))
    return comparisons


def tolerance(images: int) -> float:
    """Return the tolerance of an accuracy on another machine: a tenth of a percentage point, or one image."""
    return max(0.001, 1 / images)


def _compared(student: Student, figure: str, images: Images) -> Comparison:
    measured = evaluate(student.module, images, student.preprocessing.mean, student.preprocessing.std)
    allowed = float(student.metrics.get("tolerance", tolerance(len(images))))
    return Comparison(figure, float(student.metrics[figure]), measured.accuracy, allowed)
