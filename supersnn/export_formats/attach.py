"""Adds a student's export formats to its export folder; each file is read back, run and compared with the student."""

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
from supersnn.networks.base import ImageShape, Network, evaluating

IMAGES = 16
"""Number of images for the comparison."""

Writer = Callable[[Graph, Preprocessing, Path], None]
Reader = Callable[[Path, Preprocessing, Tensor], Run]

FORMATS: Mapping[str, tuple[str, Writer, Reader]] = {
    "nir": (
        "student.nir",
        lambda graph, _, path: nir_format.write(graph, path),
        lambda path, preprocessing, pixels: nir_format.run(
            path, normalise(pixels, preprocessing.mean, preprocessing.std)
        ),
    ),
    "nir-by-layer": (
        "student-by-layer.nir",
        lambda graph, _, path: nir_format.write(graph, path, by_layer=True),
        lambda path, preprocessing, pixels: nir_format.run(
            path, normalise(pixels, preprocessing.mean, preprocessing.std)
        ),
    ),
    "onnx": (
        "student.onnx",
        lambda graph, preprocessing, path: onnx_format.write(graph, preprocessing.mean, preprocessing.std, path),
        lambda path, _, pixels: onnx_format.run(path, pixels),
    ),
}


def attach(folder: Path, network: Network, preprocessing: Preprocessing, pixels: Tensor) -> dict[str, Any]:
    """Write a network to an export folder in every format that supports it.

    Args:
        folder: the unfinished export folder.
        network: the trained student.
        preprocessing: of its images.
        pixels: uint8 [B, C, H, W]; the first `IMAGES` are used for the comparison.

    Returns:
        For each format its `file` and the fields of its `Agreement` with the student, or the reason why it was
        `refused`; then the file does not exist.
    """
    pixels = pixels[:IMAGES].cpu()
    images = normalise(pixels, preprocessing.mean, preprocessing.std)
    try:
        with evaluating(network):
            expected = run_student(network, images.to(next(network.parameters()).device))
            graph = graph_of(network, ImageShape(preprocessing.channels, preprocessing.side))
    except UnsupportedLayerError as refusal:
        return {name: {"refused": str(refusal)} for name in FORMATS}
    return {name: _attached(name, folder, graph, preprocessing, pixels, expected) for name in FORMATS}


def _attached(
    name: str, folder: Path, graph: Graph, preprocessing: Preprocessing, pixels: Tensor, expected: Run
) -> dict[str, Any]:
    file, write, run = FORMATS[name]
    try:
        write(graph, preprocessing, folder / file)
        agreement = compare(expected, run(folder / file, preprocessing, pixels))
        if not agreement.within_tolerance():
            raise UnsupportedLayerError(f"the file, read back and run, differs from the student: {agreement}")
    except UnsupportedLayerError as refusal:
        (folder / file).unlink(missing_ok=True)
        return {"refused": str(refusal)}
    return {"file": file, **asdict(agreement)}
