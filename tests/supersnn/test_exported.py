import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from supersnn import exported
from supersnn.augment import normalise
from supersnn.config import TrainConfig
from supersnn.data import TrainingData
from supersnn.errors import UserError
from supersnn.exported import DamagedExport, Preprocessing
from supersnn.networks.base import Network
from supersnn.networks.build import build

Exported = tuple[Path, TrainConfig, Network]


@pytest.fixture
def export(configured: Callable[..., TrainConfig], bars: TrainingData, tmp_path: Path) -> Exported:
    config = configured(seed=3)
    network = build(config.student, config.neuron, bars.shape, 4).eval()
    folder = tmp_path / "best" / "arm"
    exported.write(folder, config, network.state_dict(), Preprocessing.of(bars), {"val_accuracy": 0.5})
    return folder, config, network


def test_an_export_is_the_student(export: Exported, bars: TrainingData) -> None:
    folder, config, network = export
    student = exported.load(folder)
    assert student.config == config
    assert student.preprocessing == Preprocessing.of(bars)
    assert student.metrics["val_accuracy"] == 0.5
    assert not student.module.training
    pixels = bars.validation.pixels
    with torch.no_grad():
        expected = network(normalise(pixels, bars.mean, bars.std)).logits.mean(0)
    assert torch.equal(student.predict(pixels), expected)


def test_the_metrics_name_every_other_file(export: Exported) -> None:
    folder, *_ = export
    sums = json.loads((folder / "metrics.json").read_text())["sha256"]
    assert sums.keys() == {path.name for path in folder.iterdir()} - {"metrics.json"}
    assert sums.keys() == {"config.yaml", "student.safetensors", "preprocessing.json"}


@pytest.mark.parametrize("name", ["config.yaml", "student.safetensors", "preprocessing.json"])
def test_a_changed_or_missing_file_is_named(export: Exported, name: str) -> None:
    folder, *_ = export
    content = bytearray((folder / name).read_bytes())
    content[-2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(DamagedExport, match=f"{name}: not the file that was exported"):
        exported.load(folder)
    (folder / name).unlink()
    with pytest.raises(DamagedExport, match=f"{name}: missing"):
        exported.load(folder)


def test_a_changed_figure_is_found(export: Exported) -> None:
    metrics = export[0] / "metrics.json"
    metrics.write_text(metrics.read_text().replace('"val_accuracy": 0.5', '"val_accuracy": 0.6'))
    with pytest.raises(DamagedExport, match="not the metrics that were exported"):
        exported.load(export[0])


def test_every_flipped_byte_is_found(export: Exported) -> None:
    """Each file, at many places, metrics among them."""
    folder, *_ = export
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        for place in range(0, len(content), max(1, len(content) // 60)):
            damaged = bytearray(content)
            damaged[place] ^= 1 << place % 8
            path.write_bytes(damaged)
            with pytest.raises(DamagedExport):
                exported.load(folder)
        path.write_bytes(content)
    exported.load(folder)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"sha256": {}}', '{"sha256": [], "metrics_sha256": ""}'])
def test_metrics_that_prove_nothing_are_refused(export: Exported, content: str) -> None:
    folder, *_ = export
    (folder / "metrics.json").write_text(content)
    with pytest.raises(DamagedExport):
        exported.load(folder)


def test_a_folder_that_is_no_export_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not an export folder"):
        exported.load(tmp_path)


def test_a_new_export_replaces_the_old_one_whole(export: Exported, bars: TrainingData) -> None:
    folder, config, network = export
    (folder / "old").write_text("")

    def attach(unfinished: Path) -> dict[str, str]:
        assert (folder / "old").exists()
        (unfinished / "MODEL_CARD.md").write_text("card")
        return {"card": "written"}

    exported.write(folder, config, network.state_dict(), Preprocessing.of(bars), {}, attach)
    assert not (folder / "old").exists()
    assert list(folder.parent.iterdir()) == [folder]
    metrics = exported.load(folder).metrics
    assert "MODEL_CARD.md" in metrics["sha256"]
    assert metrics["card"] == "written"


def test_an_export_that_fails_leaves_the_old_one(export: Exported, bars: TrainingData) -> None:
    folder, config, network = export

    def fail(_: Path) -> dict[str, str]:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        exported.write(folder, config, network.state_dict(), Preprocessing.of(bars), {"new": True}, fail)
    assert "new" not in exported.load(folder).metrics
    assert list(folder.parent.iterdir()) == [folder]


def test_what_is_no_export_is_never_replaced(export: Exported, bars: TrainingData, tmp_path: Path) -> None:
    _, config, network = export
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years")
    (tmp_path / "file").write_text("")
    for place in (precious, tmp_path / "file"):
        with pytest.raises(UserError, match="exists and is not an export folder"):
            exported.write(place, config, network.state_dict(), Preprocessing.of(bars), {})
    assert (precious / "thesis.txt").read_text() == "years"


def test_a_copy_is_the_same_export_without_its_ledger(export: Exported, tmp_path: Path) -> None:
    folder, *_ = export
    (folder / exported.LEDGER).write_text("a line")
    exported.copy(folder, tmp_path / "copy")
    assert exported.load(tmp_path / "copy").metrics == exported.load(folder).metrics
    assert not (tmp_path / "copy" / exported.LEDGER).exists()
    assert exported.added(folder) == []
    (folder / "more.txt").write_text("")
    assert exported.added(folder) == ["more.txt"]


ALONE = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"{{name}} is not installed", name=name)

sys.meta_path.insert(0, Blocked())
import torch
from pathlib import Path
from supersnn import exported
student = exported.load(Path({folder!r}))
print(student.predict(torch.zeros(2, 1, 8, 8, dtype=torch.uint8)).flatten().tolist())
"""
ABSENT = [
    *("ray", "optuna", "mlflow", "pandas", "sklearn", "scipy", "plotly", "jinja2", "typer", "rich", "nir", "h5py"),
    *("onnx", "onnxruntime", "snntorch", "torchvision", "timm", "PIL", "filelock", "pyarrow", "cmaes", "sqlalchemy"),
]


def test_torch_safetensors_pydantic_and_yaml_are_enough_to_load_it(export: Exported) -> None:
    script = ALONE.format(blocked=ABSENT, folder=str(export[0]))
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    expected = exported.load(export[0]).predict(torch.zeros(2, 1, 8, 8, dtype=torch.uint8))
    assert json.loads(result.stdout) == expected.flatten().tolist()


@pytest.mark.parametrize(
    ("images", "found"),
    [
        (torch.zeros(2, 1, 8, 8), r"float32 \[2, 1, 8, 8\]"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), r"uint8 \[2, 3, 8, 8\]"),
        (torch.zeros(1, 8, 8, dtype=torch.uint8), r"uint8 \[1, 8, 8\]"),
    ],
)
def test_images_of_another_kind_are_refused(export: Exported, images: torch.Tensor, found: str) -> None:
    with pytest.raises(UserError, match=rf"{found}, expected uint8 \[B, 1, 8, 8\]"):
        exported.load(export[0]).predict(images)


def test_an_image_file_is_classified(export: Exported, bars: TrainingData, tmp_path: Path) -> None:
    student = exported.load(export[0])
    pixels = bars.validation.pixels[:1]
    Image.fromarray(pixels[0, 0].numpy()).save(tmp_path / "grey.png")
    found = student.classify(tmp_path / "grey.png")
    probabilities = student.predict(pixels).softmax(1)[0]
    assert found["probability"] == pytest.approx(float(probabilities.max()))
    assert found["class"] == "abcd"[int(probabilities.argmax())]
    Image.new("RGB", (40, 20)).save(tmp_path / "other.png")
    assert student.classify(tmp_path / "other.png")["class"] in tuple("abcd")
    (tmp_path / "none.png").write_text("no image")
    with pytest.raises(UserError, match=r"none\.png: not a readable image"):
        student.classify(tmp_path / "none.png")
