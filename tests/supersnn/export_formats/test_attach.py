from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from supersnn.export_formats import attach as attaching
from supersnn.export_formats.attach import FORMS, attach
from supersnn.exported import Preprocessing
from supersnn.networks.base import Network

PREPROCESSING = Preprocessing(3, 16, (0.4, 0.5, 0.6), (0.2, 0.25, 0.3), tuple("abcde"))
PIXELS = torch.randint(0, 256, (40, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def test_every_form_is_written_and_tried(made: Callable[..., Network], tmp_path: Path) -> None:
    told = attach(tmp_path, made(), PREPROCESSING, PIXELS)
    assert told.keys() == FORMS.keys()
    assert {path.name for path in tmp_path.iterdir()} == {"student.nir", "student.onnx"}
    for form in told.values():
        assert form["images"] == attaching.IMAGES
        assert form["spikes_differing"] <= 1e-4


def test_a_refused_form_says_why_and_leaves_no_file(made: Callable[..., Network], tmp_path: Path) -> None:
    told = attach(tmp_path, made(reset="soft"), PREPROCESSING, PIXELS)
    assert "soft reset" in told["nir"]["refused"]
    assert told["onnx"]["file"] == "student.onnx"
    assert [path.name for path in tmp_path.iterdir()] == ["student.onnx"]


def test_a_form_that_is_not_the_student_is_refused(
    made: Callable[..., Network], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, _, run = FORMS["nir"]
    other = attaching.graph_of(made(threshold=0.7), attaching.ImageShape(3, 16))
    wrong = (file, lambda graph, about, path: attaching.nir_format.write(other, path), run)
    monkeypatch.setattr(attaching, "FORMS", {**FORMS, "nir": wrong})
    told = attach(tmp_path, made(), PREPROCESSING, PIXELS)
    assert "not the student" in told["nir"]["refused"]
    assert "refused" not in told["onnx"]
    assert not (tmp_path / "student.nir").exists()


def test_a_network_without_a_graph_has_no_form(made: Callable[..., Network], tmp_path: Path) -> None:
    network = made("vgg8")
    network.body.append(torch.nn.MaxPool2d(1))
    told = attach(tmp_path, network, PREPROCESSING, PIXELS)
    assert all("MaxPool2d" in form["refused"] for form in told.values())
    assert not any(tmp_path.iterdir())
