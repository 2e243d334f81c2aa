"""Teachers from files that torchvision and timm save, and what is said of files that do not fit."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor

from supersnn import teacher_fit, teachers
from supersnn.augment import Normaliser
from supersnn.config import LabelLossConfig, TrainConfig
from supersnn.data import TrainingData
from supersnn.errors import UserError
from supersnn.logit_losses import label_loss
from supersnn.networks.base import ImageShape
from supersnn.networks.build import build
from supersnn.teacher_weights import network_with, read
from supersnn.teachers import TeacherStore, recipe, require_available

Configured = Callable[..., TrainConfig]
RESNET = "torchvision:resnet18"


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state dict that torchvision's ResNet-18 saves: for colour images, with 1000 classes."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), path)
    return path


def teacher(configured: Configured, **values: Any) -> TrainConfig:
    return configured(**({"teacher__name": RESNET, "loss__relation__weight": 1.0} | values))


def test_the_body_of_torchvision_gives_the_maps_that_torchvision_gives(resnet: Path, configured: Configured) -> None:
    config = recipe(teacher(configured, teacher__weights=str(resnet)))
    network = network_with(config, ImageShape(3, 128), 10, read(resnet), "head")
    model = torchvision.models.resnet18(weights=None)
    model.load_state_dict(torch.load(resnet, weights_only=True))
    images = torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = torch.nn.Sequential(*list(model.eval().children())[:-2])(images)
        assert torch.allclose(network(images).features[0], expected, atol=1e-5)
        whole = network_with(config, ImageShape(3, 128), 1000, read(resnet), "none")
        assert torch.allclose(whole(images).logits[0], model(images), atol=1e-4)


def test_a_colour_stem_takes_grey_images(resnet: Path, configured: Configured) -> None:
    config = recipe(teacher(configured, teacher__weights=str(resnet)))
    grey = network_with(config, ImageShape(1, 128), 1000, read(resnet), "none")
    colour = network_with(config, ImageShape(3, 128), 1000, read(resnet), "none")
    images = torch.randn(2, 1, 128, 128, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(grey(images).logits, colour(images.repeat(1, 3, 1, 1)).logits, atol=1e-4)


@pytest.mark.parametrize("fit", ["head", "all"])
def test_a_new_head_is_fitted_on_the_train_split(
    fit: str, resnet: Path, configured: Configured, bars: TrainingData, tmp_path: Path
) -> None:
    config = teacher(configured, teacher__weights=str(resnet), teacher__fit=fit, teacher__epochs=2, teacher__lr=0.01)
    epochs = []
    store = TeacherStore(tmp_path)
    found = store.get(config, bars, progress=lambda what, done, of: epochs.append((what, done, of)))
    assert epochs[-1] == (f"teacher {RESNET}", 2, 2)
    assert found.seconds > 0
    assert found.network.readout.weight.shape == (4, 512)
    stem = torch.load(resnet, weights_only=True)["conv1.weight"].sum(1, keepdim=True)
    kept = torch.allclose(found.network.state_dict()["body.conv1.weight"], stem)
    assert kept is (fit == "head")
    again = store.get(config, bars)
    assert again.weights_digest == found.weights_digest
    other = teacher(configured, teacher__weights=str(resnet), teacher__fit="none")
    assert teachers.address(other, bars) != teachers.address(config, bars)


def test_a_fit_computes_as_the_training_of_a_teacher_on_its_device(
    configured: Configured, bars: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU in bf16, here pretended; the weights stay in single precision, and constants are made once."""
    made: list[Normaliser] = []
    seen: list[tuple[bool, torch.dtype, bool]] = []
    loss = label_loss

    def normaliser(*given: Any) -> Normaliser:
        made.append(Normaliser(*given))
        return made[-1]

    def noted(options: LabelLossConfig, logits: Tensor, labels: Tensor) -> Tensor:
        in_half = bool((logits.bfloat16() == logits).all())
        seen.append((torch.is_autocast_enabled("cpu"), logits.dtype, in_half))
        return loss(options, logits, labels)

    monkeypatch.setattr(teacher_fit, "gpu_precision", lambda _device: "bf16")
    monkeypatch.setattr(teacher_fit, "Normaliser", normaliser)
    monkeypatch.setattr(teacher_fit, "label_loss", noted)
    config = recipe(teacher(configured, teacher__name="resnet8", teacher__epochs=2))
    with torch.random.fork_rng([]):
        network = build(config.student, config.neuron, bars.shape, 4).eval().requires_grad_(False)
    teacher_fit.fit(network, "all", config, bars, "cpu", lambda _epoch: None)
    assert len(made) == 1
    assert set(seen) == {(False, torch.float32, True)}
    assert {value.dtype for value in network.parameters()} == {torch.float32}


def test_a_fit_to_mixed_images_has_their_mixed_labels(
    configured: Configured, bars: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []
    loss = label_loss

    def noted(options: LabelLossConfig, logits: Tensor, labels: Tensor) -> Tensor:
        seen.append(labels)
        return loss(options, logits, labels)

    monkeypatch.setattr(teacher_fit, "label_loss", noted)
    mixed = {"dataset__augment__mixup": 0.5, "dataset__augment__views": 2}
    config = recipe(teacher(configured, teacher__name="resnet8", teacher__epochs=1, **mixed))
    with torch.random.fork_rng([]):
        network = build(config.student, config.neuron, bars.shape, 4).eval().requires_grad_(False)
    teacher_fit.fit(network, "head", config, bars, "cpu", lambda _epoch: None)
    assert {labels.shape[1:] for labels in seen} == {(4,)}
    assert any(((labels > 0).sum(1) == 2).any() for labels in seen)
    assert all(torch.allclose(labels.sum(1), torch.ones(len(labels))) for labels in seen)


def test_a_fitted_head_classifies_with_the_features_of_the_file(
    configured: Configured, bars: TrainingData, tmp_path: Path
) -> None:
    source = TeacherStore(tmp_path / "one").get(teacher(configured, teacher__name="resnet8", teacher__epochs=10), bars)
    state = dict(source.network.state_dict())
    state |= {"readout.weight": torch.zeros(7, 64), "readout.bias": torch.zeros(7)}
    torch.save(state, tmp_path / "seven.pt")
    values = {"teacher__name": "resnet8", "teacher__weights": str(tmp_path / "seven.pt"), "teacher__fit": "head"}
    found = TeacherStore(tmp_path / "two").get(teacher(configured, **values, teacher__epochs=10), bars)
    assert source.val_accuracy > 0.8
    assert found.val_accuracy > 0.8


def test_an_imagenet_head_is_refused_without_fit(resnet: Path, configured: Configured) -> None:
    config = teacher(configured, teacher__weights=str(resnet))
    with pytest.raises(UserError, match=r"its head does not fit 10 classes: expected .* set teacher\.fit: head"):
        require_available(config, ImageShape(3, 128), 10)


def test_a_file_of_another_network_lists_expected_and_found_keys(resnet: Path, configured: Configured) -> None:
    with pytest.raises(
        UserError, match=r"do not match teacher\.name 'resnet8': expected stem\.0\.weight .* in all"
    ) as e:
        require_available(
            teacher(configured, teacher__name="resnet8", teacher__weights=str(resnet)), ImageShape(1, 8), 4
        )
    assert "found conv1.weight [64, 3, 7, 7]" in str(e.value)
    assert "\n" not in str(e.value)
    with pytest.raises(UserError, match=r"do not match teacher\.name 'torchvision:resnet34'"):
        require_available(
            teacher(
                configured, teacher__name="torchvision:resnet34", teacher__weights=str(resnet), teacher__fit="head"
            ),
            ImageShape(3, 128),
            4,
        )


def test_recommended_weights_are_those_of_the_library(
    resnet: Path, configured: Configured, bars: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library finds them in its cache, under the name of its file; nothing is downloaded."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    name = torchvision.models.ResNet18_Weights.DEFAULT.url.rpartition("/")[2]
    (tmp_path / "torch/hub/checkpoints").mkdir(parents=True)
    (tmp_path / "torch/hub/checkpoints" / name).write_bytes(resnet.read_bytes())
    config = teacher(configured, teacher__weights="DEFAULT", teacher__fit="head", teacher__epochs=1)
    require_available(config, bars.shape, 4)
    found = TeacherStore(tmp_path / "store").get(config, bars)
    assert found.network.readout.out_features == 4
    with pytest.raises(UserError, match=r"DEFAULT is for torchvision:NAME and timm:NAME, not for 'vgg8'"):
        require_available(teacher(configured, teacher__name="vgg8", teacher__weights="DEFAULT"), bars.shape, 4)


def test_fit_needs_weights(configured: Configured) -> None:
    with pytest.raises(UserError, match=r"teacher: fit: 'head' is for a teacher with weights"):
        teacher(configured, teacher__fit="head")


def test_class_names_beside_the_weights_are_compared(
    configured: Configured, bars: TrainingData, tmp_path: Path
) -> None:
    config = teacher(configured, teacher__name="resnet8", teacher__epochs=1)
    trained = TeacherStore(tmp_path / "one").get(config, bars)
    state = dict(trained.network.state_dict())
    order = torch.tensor([2, 0, 3, 1])
    shuffled = {k: v[order] if k.startswith("readout") else v for k, v in state.items()}
    torch.save({"state_dict": shuffled, "class_to_idx": {"c": 0, "a": 1, "d": 2, "b": 3}}, tmp_path / "some.pt")
    found = TeacherStore(tmp_path / "two").get(
        teacher(configured, teacher__name="resnet8", teacher__weights=str(tmp_path / "some.pt")), bars
    )
    assert torch.equal(found.network.state_dict()["readout.weight"], state["readout.weight"])
    torch.save({"model": state, "classes": ["a", "b", "c", "dog"]}, tmp_path / "other.pt")
    with pytest.raises(UserError, match=r"its classes are a, b, c, … \(4 in all\), the data set's are a, b, c"):
        TeacherStore(tmp_path / "three").get(
            teacher(configured, teacher__name="resnet8", teacher__weights=str(tmp_path / "other.pt")), bars
        )
    (tmp_path / "export").mkdir()
    save_file({k: v.contiguous() for k, v in state.items()}, tmp_path / "export" / "student.safetensors")
    (tmp_path / "export" / "preprocessing.json").write_text(json.dumps({"classes": list("wxyz")}), encoding="utf-8")
    assert read(tmp_path / "export" / "student.safetensors").classes == tuple("wxyz")


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_100"])
def test_state_dicts_of_timm(name: str, configured: Configured, tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False).eval()
    torch.save(model.state_dict(), tmp_path / "timm.pth")
    config = recipe(teacher(configured, teacher__name=f"timm:{name}"))
    images = torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    network = network_with(config, ImageShape(3, 128), 10, read(tmp_path / "timm.pth"), "head")
    with torch.no_grad():
        expected = model.forward_features(images)
        assert torch.allclose(network(images).features[0], expected, atol=1e-4)
        if name == "resnet18":
            whole = network_with(config, ImageShape(3, 128), 1000, read(tmp_path / "timm.pth"), "none")
            assert torch.allclose(whole(images).logits[0], model(images), atol=1e-4)


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "densenet121"])
def test_state_dicts_of_other_networks_of_torchvision(name: str, configured: Configured, tmp_path: Path) -> None:
    torch.manual_seed(0)
    torch.save(torchvision.models.get_model(name, weights=None).state_dict(), tmp_path / "it.pth")
    config = recipe(teacher(configured, teacher__name=f"torchvision:{name}"))
    network = network_with(config, ImageShape(3, 128), 10, read(tmp_path / "it.pth"), "head")
    assert network(torch.randn(2, 3, 128, 128)).logits.shape == (1, 2, 10)
