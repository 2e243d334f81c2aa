import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
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


def with_right_sums(folder: Path) -> None:
    """Make a changed export's checksums right again."""
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["sha256"] = exported._sums(folder)
    metrics["metrics_sha256"] = exported._own_sum(metrics)
    (folder / "metrics.json").write_text(json.dumps(metrics))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("side", value) for value in (-1, 0, 8.0, True, "8", None, [8])),
        *(("channels", value) for value in (0, 3, -1, None)),
        *(("mean", value) for value in ([math.nan], [], [0.5, 0.5], ["a"], [True], 0.5, None, [None])),
        *(("std", value) for value in ([0.0], [-1.0], [math.inf], [])),
        *(("classes", value) for value in ([], ["a"], ["a"] * 4, ["a", "b", "c", 1], [*"abc", ""], "abcd", None)),
        ("classes", ["a", "b", "c"]),
        ("layout", "BHWC uint8"),
        ("more", 1),
        ("mean", KeyError),
    ],
)
def test_a_preprocessing_that_makes_no_sense_is_damage(export: Exported, key: str, value: object) -> None:
    """Even where the checksums are right."""
    folder, path = export[0], export[0] / "preprocessing.json"
    plain = json.loads(path.read_text())
    if value is KeyError:
        del plain[key]
    else:
        plain[key] = value
    path.write_text(json.dumps(plain))
    with_right_sums(folder)
    with pytest.raises(DamagedExport, match="the student cannot be loaded") as refused:
        exported.load(folder)
    assert "\n" not in str(refused.value)


FILES = ("config.yaml", "student.safetensors", "preprocessing.json")
CONTENTS = (b"", "a: é".encode("latin-1"), b"[1, 2]", b"[" * 1500, bytes(100))


@pytest.mark.parametrize(
    ("name", "content"),
    [(name, content) for name in FILES for content in (*CONTENTS, *FILES) if content != name],
)
def test_files_of_another_content_are_damage(export: Exported, name: str, content: bytes | str) -> None:
    """Contents, and other files of the export; even where the checksums are right."""
    folder = export[0]
    (folder / name).write_bytes((folder / content).read_bytes() if isinstance(content, str) else content)
    with_right_sums(folder)
    with pytest.raises(DamagedExport) as refused:
        exported.load(folder)
    assert "\n" not in str(refused.value)


NO_METRICS = [b"\xe9", b"5", b"null", b"[" * 5000, b'{"sha256": [["a", "b"]], "metrics_sha256": 1}']


@pytest.mark.parametrize("content", NO_METRICS)
def test_metrics_of_another_content_are_damage(export: Exported, content: bytes) -> None:
    (export[0] / "metrics.json").write_bytes(content)
    with pytest.raises(DamagedExport, match="not the metrics"):
        exported.load(export[0])


def test_a_transparent_shape_is_classified_as_in_training(
    configured: Callable[..., TrainConfig], bars: TrainingData, tmp_path: Path
) -> None:
    """The same rules as for class folders: black ink that lies in alpha is ink on white."""
    config = configured(neuron__kind="relu", student__time_steps=1)
    weights = build(config.student, config.neuron, bars.shape, 4).state_dict()
    exported.write(tmp_path / "export", config, weights, Preprocessing.of(bars), {})
    student = exported.load(tmp_path / "export")
    alpha = np.zeros((8, 8), np.uint8)
    alpha[2:6, 3:5] = 255
    Image.fromarray(np.stack([np.zeros_like(alpha)] * 3 + [alpha], 2), "RGBA").save(tmp_path / "alpha.png")
    Image.fromarray(255 - alpha).save(tmp_path / "ink.png")
    assert student.classify(tmp_path / "alpha.png") == student.classify(tmp_path / "ink.png")
    Image.fromarray(np.zeros_like(alpha)).save(tmp_path / "black.png")
    assert student.classify(tmp_path / "alpha.png") != student.classify(tmp_path / "black.png")


@pytest.mark.parametrize("name", ["n" * 250, "file/export"])
def test_a_place_that_cannot_be_written_is_known_before_a_training(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        exported.ensure_replaceable(tmp_path / name)
