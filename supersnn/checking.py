"""Whether an export folder is what it says: every file as it was exported, every accuracy found again."""

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
    """An accuracy as it was recorded and as it was found again, fractions; they agree within the tolerance."""

    figure: str
    recorded: float
    found: float
    tolerance: float

    @property
    def agrees(self) -> bool:
        """Whether the two lie no further apart than the tolerance."""
        return abs(self.found - self.recorded) <= self.tolerance + 1e-12


def check(folder: Path, device: torch.device | str = "cpu") -> list[Comparison]:
    """Return what becomes of the recorded accuracies when the student is loaded and evaluated again.

    The validation images always are, the test images where the export has a figure for them; their opening is written
    down in the folder first. Sets torch's number of threads to the training's, because the bits depend on it.

    Raises:
        UserError: there is no such folder, its data set is not here, or nothing can be written into it.
        DamagedExport: a file of it is missing, changed, unreadable, or no part of it.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    if not (folder / METRICS).is_file():
        raise DamagedExport(f"{folder / METRICS}: missing")
    student = exported.load(folder, device)
    if added := exported.added(folder):
        raise DamagedExport(f"{folder / added[0]}: no part of the export")
    dataset = student.config.dataset
    torch.set_num_threads(student.config.train.threads)
    found = [_compared(student, "val_accuracy", training_data(dataset, device).validation)]
    if student.metrics.get("test_accuracy") is not None:
        try:
            test = open_test(dataset, folder / LEDGER, f"check {folder.name}", device)
        except OSError as error:
            raise UserError(
                f"{folder / LEDGER}: the test images stay closed, for it cannot be written: {error}"
            ) from error
        found.append(_compared(student, "test_accuracy", test))
    return found


def tolerance(images: int) -> float:
    """Return by how much an accuracy over so many images may differ elsewhere: a tenth of a point, or one image."""
    return max(0.001, 1 / images)


def _compared(student: Student, figure: str, images: Images) -> Comparison:
    measured = evaluate(student.module, images, student.preprocessing.mean, student.preprocessing.std)
    allowed = float(student.metrics.get("tolerance", tolerance(len(images))))
    return Comparison(figure, float(student.metrics[figure]), measured.accuracy, allowed)
