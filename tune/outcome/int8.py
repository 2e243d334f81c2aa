"""Weights of 8 bits in an export folder: the file, and whether its accuracy is within half a point of the floats'."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from analysis.paired_images import MARGIN, not_worse
from supersnn.data import TrainingData
from supersnn.export_formats import int8_format
from supersnn.networks.base import Network


def attach(folder: Path, network: Network, data: TrainingData, tested: Mapping[str, Any] | None) -> dict[str, Any]:
    """Write a student's weights of 8 bits to an export folder, and measure them on the validation images.

    Args:
        folder: the unfinished export folder.
        network: the trained student, on the device of the images.
        data: its images.
        tested: what was measured on the test images while they were open for this student's final run
            (`supersnn.export_formats.int8_format.compared`), None where they were not, or not for this.

    Returns:
        `file`, `val_accuracy`, `test_accuracy` (None if not measured), and under `validation` and `test` both forms'
        figures with the comparison (`analysis.paired_images`); or the reason why it was `refused`.
    """
    found = int8_format.compared(network, data.validation, data.shape, data.mean, data.std)
    if "refused" in found:
        return found
    int8_format.write(network, data.shape, folder / int8_format.FILE)
    test = judged(tested) if tested is not None and "refused" not in tested else None
    return {
        "file": int8_format.FILE,
        "val_accuracy": found["int8"]["accuracy"],
        "test_accuracy": None if test is None else test["int8"]["accuracy"],
        "validation": judged(found),
        "test": test,
    }


def judged(compared: Mapping[str, Any]) -> dict[str, Any]:
    """Return a comparison with its verdict: `margin`, and the fields of `analysis.paired_images.NotWorse`."""
    found = not_worse(compared["images"], compared["gained"], compared["lost"])
    return {**compared, "margin": MARGIN, **found._asdict()}
