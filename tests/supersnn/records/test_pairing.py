"""Families by name, and kinds of pairing."""

import pytest

from supersnn.records.pairing import family, pairing


@pytest.mark.parametrize(
    ("architecture", "expected"),
    [
        ("resnet8", "resnet"),
        ("vgg16", "vgg"),
        ("wrn16_2", "wrn"),
        ("torchvision:resnet18", "resnet"),
        ("torchvision:wide_resnet50_2", "wrn"),
        ("torchvision:mobilenet_v2", "mobilenet"),
        ("timm:vgg11", "vgg"),
        ("timm:wide_resnet50_2", "wrn"),
        ("timm:convnext_tiny", "convnext"),
    ],
)
def test_family(architecture: str, expected: str) -> None:
    assert family(architecture) == expected


def test_pairing() -> None:
    assert pairing("resnet", None) == "none"
    assert pairing("resnet", family("torchvision:resnet18")) == "homogeneous"
    assert pairing("resnet", family("vgg8")) == "heterogeneous"
