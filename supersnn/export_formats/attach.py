"""Every form of a student, written beside its export, read back and run; what does not fit is refused by name."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from supersnn.augment import normalise
from supersnn.export_formats import nir_format, onnx_format
from supersnn.export_formats.agreement import Run, compare, run_student
from supersnn.export_formats.graph import Graph, UnsupportedLayerError, graph_of
from supersnn.exported import Preprocessing
from supersnn.networks.base import ImageShape, Network

IMAGES = 16
"""How many images a form is tried on."""

Writer = Callable[[Graph, Preprocessing, Path], None]
Reader = Callable[[Path, Preprocessing, Tensor], Run]

FORMS: Mapping[str, tuple[str, Writer, Reader]] = {
    "nir": (
        "student.nir",
        lambda graph, _, path: nir_format.write(graph, path),
        lambda path, about, pixels: nir_format.run(path, normalise(pixels, about.mean, about.std)),
    ),
    "onnx": (
        "student.onnx",
        lambda graph, about, path: onnx_format.write(graph, about.mean, about.std, path),
        lambda path, _, pixels: onnx_format.run(path, pixels),
    ),
}


def attach(folder: Path, network: Network, preprocessing: Preprocessing, pixels: Tensor) -> dict[str, Any]:
    """Write every form that the network has into a folder.

    Args:
        folder: of the export, unfinished.
        network: trained.
        preprocessing: of its images.
        pixels: uint8 [B, C, H, W], of which the first `IMAGES` are shown to the student and to each form.

    Returns:
        By form its `file` and the fields of its `Agreement` with the student, or why it was `refused`; then there is
        no file.
    """
    pixels = pixels[:IMAGES].cpu()
    training = network.training
    network.eval()
    try:
        images = normalise(pixels, preprocessing.mean, preprocessing.std)
        expected = run_student(network, images.to(next(network.parameters()).device))
        graph = graph_of(network, ImageShape(preprocessing.channels, preprocessing.side))
    except UnsupportedLayerError as refusal:
        return {form: {"refused": str(refusal)} for form in FORMS}
    finally:
        network.train(training)
    return {form: _attached(form, folder, graph, preprocessing, pixels, expected) for form in FORMS}


def _attached(
    form: str, folder: Path, graph: Graph, preprocessing: Preprocessing, pixels: Tensor, expected: Run
) -> dict[str, Any]:
    file, write, run = FORMS[form]
    try:
        write(graph, preprocessing, folder / file)
        found = compare(expected, run(folder / file, preprocessing, pixels))
        if not found.holds():
            raise UnsupportedLayerError(f"read back and run, it is not the student: {found}")
    except UnsupportedLayerError as refusal:
        (folder / file).unlink(missing_ok=True)
        return {"refused": str(refusal)}
    return {"file": file, **asdict(found)}
