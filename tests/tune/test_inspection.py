"""What a sweep needs from outside is looked at before it starts: images, networks, weights, earlier sweeps."""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from supersnn.config import TrainConfig
from supersnn.config_model import parse, to_yaml
from supersnn.data import DataSummary
from supersnn.errors import UserError
from supersnn.nested import merge, unflatten
from tune.description.arms import resolve
from tune.description.inspection import inspect_sweep, inspect_training, is_here
from tune.description.sweep import SweepConfig, load
from tune.store import Store

PLAIN: dict[str, Any] = {
    "name": "tiny",
    "dataset": {"name": "digits"},
    "student": {"architecture": "resnet8"},
    "arms": {"direct": {}, "heterogeneous": {"teachers": ["vgg8"]}},
}


def described(**changes: Any) -> SweepConfig:
    keys = {key.replace("__", "."): value for key, value in changes.items()}
    return parse(SweepConfig, merge(PLAIN, unflatten(keys)), "test")


def inspected(sweep: SweepConfig, store: Path) -> DataSummary:
    """Return what is known of the images of the only data set, or the first."""
    return next(iter(inspect_sweep(sweep, resolve(sweep), Store.at(store), "here").values()))


def test_sizes_are_known_before_anything_starts(tmp_path: Path) -> None:
    summary = inspected(described(), tmp_path / "store")
    assert (summary.train, summary.validation, summary.test) == (1222, 216, 359)
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dataset__name": "digit"}, "did you mean 'digits'?"),
        ({"dataset__name": "folder:/nowhere"}, "/nowhere"),
        ({"dataset__validation": 1e-9}, "leaves the validation split empty"),
        ({"dataset__images": 5000}, "5000 exceeds the 1438 training images"),
        ({"dataset__augment__crop": 9}, "dataset.augment.crop: expected at most the images' side, 8 pixels, found 9"),
        ({"student__architecture": "torchvision:resnet18"}, "student.architecture: 'torchvision:resnet18' has no spik"),
        ({"arms__direct__students": ["torchvision:resnet18"]}, "arms.direct.students: 'torchvision:resnet18' has no"),
        ({"arms__heterogeneous__teachers": ["torchvision:vit_b_16"]}, "arms.heterogeneous.teachers: 'torchvision:vit"),
        ({"teacher__weights": "/nowhere.pt"}, "teacher.weights: /nowhere.pt is not there"),
        ({"teacher__weights": "/"}, "teacher.weights: / is no file"),
        ({"search__warm_start": ["earlier"]}, "search.warm_start: "),
        (
            {
                "space": {"neuron.kind": {"categorical": ["relu", "lif"]}},
                "student__architecture": "torchvision:resnet18",
            },
            "has no spiking form",
        ),
    ],
)
def test_what_is_certain_to_fail_is_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=r"^here: ") as caught:
        inspected(described(**changes), tmp_path)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_student_without_spikes_may_be_another_librarys(tmp_path: Path) -> None:
    changes = {"student__architecture": "torchvision:resnet18", "neuron__kind": "relu"}
    assert inspected(described(**changes), tmp_path).shape is not None


def test_half_precision_needs_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"train\.precision: 'fp16' requires a CUDA device"):
        inspected(described(train__precision="fp16"), tmp_path)
    assert inspected(described(train__precision="fp16", resources__gpus=1), tmp_path)


def test_one_file_of_weights_is_not_for_two_teachers(tmp_path: Path) -> None:
    weights = tmp_path / "weights.pt"
    weights.touch()
    two = {"arms": {"homogeneous": {"teachers": ["resnet14"]}}, "teacher__weights": str(weights)}
    with pytest.raises(UserError, match="is one network's, but there are 2 teachers: resnet14, vgg8"):
        inspected(described(**two), tmp_path)


def test_a_warm_start_needs_an_arm_of_the_same_name(tmp_path: Path) -> None:
    earlier = tmp_path / "sweeps" / "earlier" / "config.yaml"
    earlier.parent.mkdir(parents=True)
    earlier.write_text(to_yaml(described(name="earlier")), encoding="utf-8")
    sweep = described(search__warm_start=["earlier"])
    assert inspected(sweep, tmp_path)
    earlier.write_text(to_yaml(described(name="earlier")).replace("direct:", "a:").replace("heterogeneous:", "b:"))
    with pytest.raises(UserError, match="'earlier' has none of this sweep's arms, but a, b"):
        inspected(sweep, tmp_path)


def test_test_images_of_a_folder_are_compared_by_name_and_size_beforehand(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for name in ("a", "b"):
            for number in range(10):
                file = tmp_path / part / name / f"{number}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.new("L", (8, 8), number * 20).save(file)
    sweep = described(dataset__name=f"folder:{tmp_path}")
    assert inspected(sweep, tmp_path / "store").test == 20
    (tmp_path / "test" / "c").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "test" / "c" / "0.png")
    with pytest.raises(UserError, match=r"here: .*test/c"):
        inspected(sweep, tmp_path / "store")


def test_a_data_set_may_be_on_a_clusters_nodes_alone(tmp_path: Path) -> None:
    assert is_here("digits")
    assert is_here(f"folder:{tmp_path}")
    assert not is_here("folder:/nowhere")


def test_a_training_is_looked_at_before_its_teacher_is_trained() -> None:
    config: dict[str, Any] = {
        "dataset": {"name": "digits"},
        "student": {"architecture": "torchvision:resnet18"},
        "teacher": {"name": "vgg8"},
        "loss": {"logit": {"weight": 1}},
    }
    with pytest.raises(UserError, match=r"^file: student\.architecture: .* has no spiking form"):
        inspect_training(parse(TrainConfig, config, "x"), "file")


def test_paths_do_not_depend_on_the_workers_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("sweep.yaml").write_text(to_yaml(described(teacher__weights="w.pt", dataset__name="folder:x")))
    sweep = load(Path("sweep.yaml"))
    assert (sweep.teacher.weights, sweep.dataset.name) == (str(tmp_path / "w.pt"), f"folder:{tmp_path / 'x'}")
