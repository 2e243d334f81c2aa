import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from supersnn.config import NetworkConfig, NeuronConfig
from supersnn.errors import UserError
from supersnn.networks.base import ImageShape, Network
from supersnn.networks.build import ARCHITECTURES, build, require_known
from supersnn.records.pairing import family

RELU = NeuronConfig(kind="relu")


def made(name: str, side: int = 32, channels: int = 3, neuron: NeuronConfig = RELU, **student: Any) -> Network:
    return build(NetworkConfig(architecture=name, **student), neuron, ImageShape(channels, side), classes=7)


# the map's channels, and its sides for images of side 8, 32 and 224
FITTED = {
    "resnet18": (512, (1, 4, 7)),
    "vgg11_bn": (512, (1, 2, 14)),
    "alexnet": (256, (1, 7, 13)),
    "densenet121": (1024, (1, 4, 7)),
    "mobilenet_v2": (1280, (1, 2, 7)),
    "shufflenet_v2_x0_5": (1024, (1, 4, 7)),
}


@pytest.mark.parametrize("name", FITTED)
def test_stem_and_head_fit_the_data(name: str) -> None:
    width, sides = FITTED[name]
    with torch.device("meta"):
        for side, left in zip((8, 32, 224), sides, strict=True):
            network = made(f"torchvision:{name}", side, channels=1)
            logits, features = network(torch.empty(2, 1, side, side))
            assert logits.shape == (1, 2, 7)
            assert features.shape == (1, 2, width, left, left)
            assert network.channels == width


def test_a_given_stem_stride_holds() -> None:
    with torch.device("meta"):
        assert made("torchvision:resnet18", 32, stem_stride=4)(torch.empty(2, 3, 32, 32)).features.shape[-1] == 1
        assert made("torchvision:resnet18", 64, stem_stride=1)(torch.empty(2, 3, 64, 64)).features.shape[-1] == 8


def test_it_learns_as_any_network_does_and_its_map_is_what_the_readout_sees() -> None:
    torch.manual_seed(0)
    network = made("torchvision:mobilenet_v3_small", side=16)
    logits, features = network(torch.randn(4, 3, 16, 16))
    logits.square().mean().backward()
    assert all(p.grad is not None for p in network.parameters())
    assert network.training
    assert not network.spiking_layers()
    torch.testing.assert_close(logits, network.readout(features.mean((3, 4))))


def test_nothing_of_the_classifiers_own_head_is_kept() -> None:
    with torch.device("meta"):
        network = made("torchvision:vgg11")
    assert sum(isinstance(layer, nn.Linear) for layer in network.modules()) == 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *(
            (name, next(known for known in ("wrn", "resnet", "vgg") if name.startswith(known)))
            for name in ARCHITECTURES
        ),
        ("torchvision:resnet18", "resnet"),
        ("torchvision:vgg11_bn", "vgg"),
        ("torchvision:wide_resnet50_2", "wrn"),
        ("torchvision:mobilenet_v2", "mobilenet"),
        ("torchvision:efficientnet_b0", "efficientnet"),
        ("torchvision:resnext50_32x4d", "resnext"),
        ("torchvision:densenet121", "densenet"),
        ("timm:mobilenetv3_small_050", "mobilenet"),
        ("timm:resnet18.a1_in1k", "resnet"),
        ("timm:vgg11", "vgg"),
        ("timm:wide_resnet50_2", "wrn"),
    ],
)
def test_families(name: str, expected: str) -> None:
    assert family(name) == expected


def test_an_unknown_classifier_is_the_users_mistake() -> None:
    for act in (require_known, made):
        with pytest.raises(UserError, match=r"^'torchvision:resnet19' is unknown \(did you mean 'resnet1"):
            act("torchvision:resnet19")


def test_it_has_no_spiking_form() -> None:
    with pytest.raises(UserError, match="'torchvision:resnet18' has no spiking form"):
        made("torchvision:resnet18", neuron=NeuronConfig())


def test_what_has_no_map_or_does_not_fit_is_refused() -> None:
    with torch.device("meta"):
        for name, side in [("torchvision:vit_b_16", 32), ("torchvision:inception_v3", 8)]:
            with pytest.raises(UserError, match=f"'{name}' does not support images of side {side}"):
                made(name, side)


def test_without_timm_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match=r"^'timm:resnet18' requires timm, .*: pip install 'supersnn\[timm\]'"):
        made("timm:resnet18")


class TimmClassifier(nn.Module):
    """What timm's classifiers have in common: `forward_features`, and parts behind it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_stem = nn.Conv2d(channels, 8, 7, 4, 3)
        self.blocks = nn.Sequential(nn.ReLU(), nn.Conv2d(8, 12, 3, 2, 1), nn.ReLU())
        self.conv_head = nn.Conv2d(12, 99, 1)

    def forward_features(self, images: Tensor) -> Tensor:
        return self.blocks(self.conv_stem(images))


def test_a_timm_classifier_is_fitted_and_loses_what_stands_behind_its_map(monkeypatch: pytest.MonkeyPatch) -> None:
    def create_model(name: str, pretrained: bool, in_chans: int, num_classes: int) -> nn.Module:
        if name != "here":
            raise RuntimeError(f"Unknown model ({name})")
        assert (pretrained, num_classes) == (False, 0)
        return TimmClassifier(in_chans)

    monkeypatch.setitem(sys.modules, "timm", SimpleNamespace(create_model=create_model))
    network = made("timm:here", side=16, channels=1)
    logits, features = network(torch.randn(3, 1, 16, 16))
    logits.square().mean().backward()
    assert features.shape == (1, 3, 12, 8, 8)
    assert all(p.grad is not None for p in network.parameters())
    with pytest.raises(UserError, match=r"'timm:there': Unknown model \(there\)"):
        made("timm:there")
