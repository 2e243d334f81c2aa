from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from supersnn.export_formats import attach as attaching
from supersnn.export_formats import nir_format
from supersnn.export_formats.attach import FORMATS, attach
from supersnn.export_formats.graph import graph_of
from supersnn.exported import Preprocessing
from supersnn.networks.base import ImageShape, Network

PREPROCESSING = Preprocessing(3, 16, (0.4, 0.5, 0.6), (0.2, 0.25, 0.3), tuple("abcde"))
PIXELS = torch.randint(0, 256, (40, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def test_every_format_is_written_and_compared(made: Callable[..., Network], tmp_path: Path) -> None:
    results = attach(tmp_path, made(), PREPROCESSING, PIXELS)
    assert results.keys() == FORMATS.keys()
    assert {path.name for path in tmp_path.iterdir()} == {"student.nir", "student-by-layer.nir", "student.onnx"}
    for result in results.values():
        assert result["images"] == attaching.IMAGES
        assert result["spikes_differing"] <= 1e-4


def test_a_refused_format_has_a_reason_and_no_file(made: Callable[..., Network], tmp_path: Path) -> None:
    results = attach(tmp_path, made(reset="soft"), PREPROCESSING, PIXELS)
    assert "soft reset" in results["nir"]["refused"]
    assert results["onnx"]["file"] == "student.onnx"
    assert [path.name for path in tmp_path.iterdir()] == ["student.onnx"]


def test_a_file_that_differs_from_the_student_is_refused(
    made: Callable[..., Network], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, _, run = FORMATS["nir"]
    other = graph_of(made(threshold=0.7), ImageShape(3, 16))
    wrong = (file, lambda _graph, _preprocessing, path: nir_format.write(other, path), run)
    monkeypatch.setattr(attaching, "FORMATS", {**FORMATS, "nir": wrong})
    results = attach(tmp_path, made(), PREPROCESSING, PIXELS)
    assert "differs from the student" in results["nir"]["refused"]
    assert "refused" not in results["onnx"]
    assert not (tmp_path / "student.nir").exists()


def test_a_network_without_a_graph_has_no_format(made: Callable[..., Network], tmp_path: Path) -> None:
    network = made("vgg8")
    network.body = torch.nn.Sequential(network.body, torch.nn.MaxPool2d(1))
    results = attach(tmp_path, network, PREPROCESSING, PIXELS)
    assert all("MaxPool2d" in result["refused"] for result in results.values())
    assert not any(tmp_path.iterdir())
