"""`train`: its exit code, and what it exports."""

import os
from pathlib import Path

import pytest
import yaml
from PIL import Image

from tests.support.cli import invoke, run_json

SMALL = {
    "dataset": {"name": "digits", "images": 100, "augment": {"views": 1}},
    "student": {"architecture": "resnet8", "stem_stride": 4, "time_steps": 1},
    "train": {"epochs": 1, "batch_size": 32},
}


def write(path: Path, **sections: object) -> Path:
    path.write_text(yaml.safe_dump({**SMALL, **sections}))
    return path


@pytest.mark.parametrize(
    ("sections", "reason"),
    [
        ({"neuron": {"threshold": 1e6}}, "silent in epoch 1: its firing rate is below"),
        ({"optimizer": {"lr": 1e30}}, "nan in epoch 1: its loss or a metric is not a finite number"),
    ],
)
def test_a_failed_training_ends_with_1_and_its_reason(tmp_path: Path, sections: dict[str, object], reason: str) -> None:
    file, to = write(tmp_path / "t.yaml", **sections), tmp_path / "export"
    result = invoke("train", file, "--store", tmp_path / "store", "--to", to)
    assert result.exit_code == 1
    assert f"the training failed: {reason}" in result.stderr
    assert result.stderr.strip().endswith("nothing was exported")
    assert not to.exists()
    assert invoke("train", file, "--store", tmp_path / "store", "--json").exit_code == 1


def test_an_export_names_the_absolute_folder_of_its_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPERSNN_DATA", str(tmp_path / "data"))
    for name in ("a", "b"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for number in range(20):
            Image.new("L", (8, 8), 10 * number + 50).save(tmp_path / "set" / name / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    file = write(
        tmp_path / "t.yaml",
        dataset={"name": f"folder:{os.path.join('.', 'set')}", "augment": {"views": 1}},
        neuron={"kind": "relu"},
    )
    run_json("train", file, "--store", tmp_path / "store", "--to", tmp_path / "export")
    stored = yaml.safe_load((tmp_path / "export" / "config.yaml").read_text())
    assert stored["dataset"]["name"] == f"folder:{tmp_path / 'set'}"
